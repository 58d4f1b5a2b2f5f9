from __future__ import annotations

import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest
from pyroute2 import IPRoute

from pytest_carthage import Layout

PORT = 5432


def heard(connection: socket.socket) -> str:
    with connection:
        return connection.recv(100).decode()


def state_of_the_host() -> dict[str, Any]:
    """Whatever a layout could leave in the host's network namespace."""
    with IPRoute() as ip:
        links = sorted(link.get_attr("IFLA_IFNAME") for link in ip.get_links())
        addresses = sorted(address.get_attr("IFA_ADDRESS") for address in ip.get_addr())
        routes = sorted(
            (str(route.get_attr("RTA_DST")), route.get_attr("RTA_OIF"), route["table"])
            for route in ip.get_routes()
        )
    rules = subprocess.run(["nft", "list", "ruleset"], capture_output=True, text=True, check=True)
    return {
        "links": links,
        "addresses": addresses,
        "routes": routes,
        "rules": rules.stdout,
        "forwards": Path("/proc/sys/net/ipv4/ip_forward").read_text(),
    }


def packets() -> dict[str, int]:
    """Packets that each interface of the host has sent and received."""
    with IPRoute() as ip:
        counted = {}
        for link in ip.get_links():
            seen = link.get_attr("IFLA_STATS64")
            counted[link.get_attr("IFLA_IFNAME")] = seen["rx_packets"] + seen["tx_packets"]
        return counted


@pytest.fixture(scope="session")
def before(host: None) -> dict[str, Any]:
    return state_of_the_host()


@pytest.fixture
def live(before: dict[str, Any], office: Layout) -> Layout:
    return office


def test_same_address_leads_to_each_ones_own(live: Any) -> None:
    with live.db.socket() as listener:
        listener.bind(("0.0.0.0", PORT))
        listener.listen()
        connection = live.gw.connect(PORT, "10.0.0.10")
        accepted, _ = listener.accept()
        with accepted:
            accepted.sendall(b"the machine")
        assert heard(connection) == "the machine"
        assert heard(socket.create_connection(("10.0.0.10", PORT), timeout=5)) == "the host"


def test_machines_do_not_reach_the_host(live: Any) -> None:
    for machine, address in [(live.db, "192.168.1.20"), (live.web, "192.168.1.20")]:
        with pytest.raises(ConnectionRefusedError):
            machine.connect(PORT, address)
    with pytest.raises(ConnectionRefusedError):
        live.db.connect(PORT, "127.0.0.1")


def test_packets_stay_on_their_side(live: Any) -> None:
    counted = packets()
    assert live.db.ping("192.168.1.20") < 1
    assert live.gw.ping("10.0.0.10") < 1
    with pytest.raises(OSError, match=r"10\.0\.0\.99"):
        live.gw.ping("10.0.0.99", timeout_s=1)
    assert packets() == counted


def test_host_is_as_it_was(live: Any, before: dict[str, Any]) -> None:
    assert live.gw.host.file("/proc/sys/net/ipv4/ip_forward").content_string == "1\n"
    assert state_of_the_host() == before
