"""The machines that have the role, from the image and by themselves: the same tests for both."""

from urllib.request import urlopen

import pytest


@pytest.fixture(params=["built", "other"])
def server(request, servers):
    return servers[request.param]


def test_unit_is_active_and_comes_back_at_boot(server):
    service = server.host.service("quotes")
    assert service.is_running
    assert service.is_enabled


def test_service_answers_on_its_port(server):
    with server.forward(8000) as port, urlopen(f"http://127.0.0.1:{port}") as answer:
        assert answer.read().decode().rstrip() in server.read_text("/etc/quotes.txt").splitlines()


def test_unwanted_packages_are_gone(server):
    assert not server.host.package("ed").is_installed
    assert server.host.package("python3").is_installed


def test_machines_are_of_two_releases(servers):
    releases = {server.host.system_info.codename for server in servers}
    assert releases == {"bookworm", "trixie"}


def test_layout_tells_who_offers_quotes(servers):
    assert set(servers.offering("quotes")) == {"built", "other"}


def test_what_the_image_has_is_not_done_again(servers):
    def has_purged(server):
        return any("purge" in command.text for command in server.commands)

    assert has_purged(servers.other)
    assert not has_purged(servers.built)
