"""The snippets of ``docs/how-to/ansible-tree.md``."""

from __future__ import annotations

import shutil
import socket
import sys
from pathlib import Path

import pytest

from pytest_carthage import Layout, Machine, Network, stage

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(
        not (Path(sys.executable).parent / "ansible-playbook").exists()
        and shutil.which("ansible-playbook") is None,
        reason="no ansible-playbook; try: pip install 'pytest-carthage[ansible]'",
    ),
]


# docs: names
class Shop(Layout):
    lan = Network("10.0.0.0/24")

    web = Machine(links={"eth0": lan.at(".1")}, inventory_hostname="web1.prod.example")
    db = Machine(links={"eth0": lan.at(".2")}, inventory_hostname="db.prod.example")
    # docs: end


shop = Shop.fixture()


# docs: stage
@stage
async def production(shop: Shop) -> None:
    await shop.aio.ansible("deploy/site.yml")
    # docs: end


def test_stage_applies_the_tree(shop: Shop, production: None) -> None:
    assert shop.web.exists("/etc/motto")


def test_machine_says_its_groups_and_variables() -> None:
    # docs: groups
    web = Machine(groups=["webshop"], variables={"listen": "0.0.0.0"})
    # docs: end
    assert web.groups == ("webshop",)
    assert web.variables == {"listen": "0.0.0.0"}


def test_play_reaches_what_is_declared(shop: Shop) -> None:
    with socket.create_server(("127.0.0.1", 0)) as index:
        port = index.getsockname()[1]
        # docs: outside
        shop.ansible("deploy/site.yml", outside=[f"localhost:{port}"])
        # docs: end
    assert [gate.to for gate in shop.gates] == [f"localhost:{port}"]


def test_inventory_of_production(shop: Shop) -> None:
    # docs: absent
    result = shop.ansible("deploy/site.yml")
    assert list(result.hosts) == ["web1.prod.example"]
    assert result.absent == ("web2.prod.example",)
    assert shop.web.read_text("/etc/motto") == "We deliver (1.0)\n"
    assert shop.web.read_text("/etc/neighbours") == "web1.prod.example\n"
    # docs: end
    assert shop.db.run("getent hosts web1.prod.example").stdout.split()[0] == "10.0.0.1"


def test_command_line(shop: Shop) -> None:
    # docs: line
    result = shop.ansible(
        "deploy/site.yml",
        "deploy/more.yml",
        tags=["config"],
        skip_tags="slow",
        limit=["web", "databases"],
        check=True,
        diff=True,
        verbosity=1,
        forks=20,
        extra_vars=["@deploy/prod.yml", {"version": "2.1"}],
        become=True,
        environment={"ANSIBLE_GATHERING": "explicit"},
    )
    # docs: end
    assert [(task.name, task.status) for task in result.tasks] == [
        ("Motto", "changed"),
        ("Checked", "ok"),
    ]
    assert "(2.1)" in result.log.read_text()


def test_one_module(shop: Shop) -> None:
    shop.web.write_text("/etc/motto", "We deliver\n")
    # docs: module
    results = shop.ansible_module("command", "id -un", hosts="webshop", playbook_dir="deploy")
    assert results["web1.prod.example"]["stdout"] == "root"

    shop.ansible_module("file", {"path": "/etc/motto", "mode": "0600"}, hosts=["web"], become=True)
    # docs: end
    assert shop.web.run("stat -c %a /etc/motto").stdout == "600\n"
