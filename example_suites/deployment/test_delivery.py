"""From sources to containers that answer."""

import json
from pathlib import Path
from urllib.request import urlopen

import pytest

PLAYBOOKS = Path(__file__).parent / "ansible"


def ask(machine):
    with machine.forward(8080) as port, urlopen(f"http://127.0.0.1:{port}") as answer:
        return json.load(answer)


def test_artifact_is_a_debian_package(artifact):
    assert artifact.name == "shop_1.0_all.deb"
    assert artifact.read_bytes().startswith(b"!<arch>\ndebian-binary")


def test_application_is_its_base_and_what_the_definition_says(base, application):
    assert application.layers[: len(base.layers)] == base.layers
    assert [layer.title for layer in application.history[len(base.layers) :]] == [
        "install ca-certificates",
        "write the settings",
        "install the artifact",
    ]
    assert application.packages["shop"] == "1.0"
    assert application.labels["org.opencontainers.image.version"] == "1.0"
    assert json.loads(application.read_text("/etc/shop.json")) == {"port": 8080, "currency": "EUR"}


def test_hosts_need_nothing_more(site, hosts):
    assert not site.ansible(PLAYBOOKS / "host.yml").changed


@pytest.mark.parametrize("name", ["east", "west"])
def test_container_answers(site, deployed, name):
    assert site[name].host.service("shop").is_running
    assert ask(site[name])["currency"] == "EUR"


def test_container_is_apart_from_its_host(site, deployed):
    process = json.loads(site.west.run("crun state shop").stdout)["pid"]
    assert site.west.run(f"stat --format %U /proc/{process}").lines == ["www-data"]
    assert site.west.exists(f"/proc/{process}/root/etc/shop.json")
    assert not site.west.exists("/etc/shop.json")
