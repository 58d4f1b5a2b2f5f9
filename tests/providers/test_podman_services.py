"""DHCP, DNS and dynamic routing in containers: by the image's programs, and a client outside."""

from __future__ import annotations

import pytest

from pytest_carthage import Layout, Machine, Network, V4Config, V6Config, command
from pytest_carthage.roles import DhcpServer, DnsServer, OspfRouter, ospf_neighbours

from .conftest import DEBIAN, Build

pytestmark = [pytest.mark.real, pytest.mark.timeout(600)]


class Office(Layout):
    """Containers that serve, ask and route."""

    lan = Network(
        v4=V4Config(network="10.0.0.0/24", gateway="10.0.0.1"),
        v6=V6Config(network="fd00:1::/64"),
    )
    far = Network("10.9.0.0/24")
    gw = Machine(
        DEBIAN,
        links={"eth0": lan.at(".1", "::1")},
        roles=[DhcpServer(), DnsServer(domain="office.example"), OspfRouter()],
    )
    router = Machine(
        links={"eth0": lan.at(".2", "::2"), "far0": far.at(".1")},
        roles=[OspfRouter()],
    )
    pc = Machine(DEBIAN, links={"eth0": lan.at(".7", "::7", dhcp=True)})


def test_containers_serve_and_ask_as_other_machines_do(build: Build) -> None:
    office = build(Office)
    gw, pc = office["gw"], office["pc"]
    assert pc.address("lan") == "10.0.0.7"
    shown = pc.run("ip address show eth0").stdout
    assert "inet 10.0.0.7/24 " in shown
    assert "inet6 fd00:1::7/64 " in shown
    assert "via 10.0.0.1 " in pc.run("ip route show default").stdout
    assert pc.read_text("/etc/resolv.conf").splitlines() == [
        "search office.example",
        "nameserver 10.0.0.1",
        "nameserver fd00:1::1",
    ]
    found = pc.run(["getent", "-s", "dns", "ahostsv4", "eth0.router"]).stdout
    assert found.startswith("10.0.0.2 ")
    assert "DHCPACK(eth0) 10.0.0.7 " in gw.logs()
    gw.wait_for(ospf_neighbours(1))
    gw.wait_for(command("ip route show 10.9.0.0/24 | grep 10.0.0.2"))
    pc.stop()
    pc.start()
    assert pc.address("lan") == "10.0.0.7"
    assert "nameserver 10.0.0.1" in pc.read_text("/etc/resolv.conf")
