"""What a router does to addresses, as the layout declares it."""

from __future__ import annotations

import socket

import pytest

from pytest_carthage import Forward, Layout, Machine, Network, V4Config
from tests.live.conftest import Build

pytestmark = pytest.mark.real


class Site(Layout):
    """A web server behind a router that hides IPv4 alone."""

    lan = Network("10.0.0.0/24", "fd00:1::/64")
    wan = Network("2001:db8::/64", v4=V4Config(network="203.0.113.0/24"))
    web = Machine(links={"eth0": lan.at(".80", "::80", gateway=".1")}, routes={"::/0": "fd00:1::1"})
    desk = Machine(links={"eth0": lan.at(".50", "::50", gateway=".1")})
    gw = Machine(
        links={
            "lan0": lan.at(".1", "::1"),
            "wan0": wan.at(".1", "::1", v4=V4Config(masquerade=True)),
        },
        forwards=[
            Forward("wan0", 8080, to=web, to_port=80),
            Forward("wan0", 53, to=web, protocol="udp"),
        ],
    )
    guest = Machine(links={"eth0": wan.at(".9", "::9")}, routes={"fd00:1::/64": "2001:db8::1"})


def peer_of_next(server: socket.socket) -> str:
    """Who comes next, as the server sees it."""
    server.settimeout(5)
    accepted, peer = server.accept()
    accepted.close()
    return str(peer[0])


def test_ports_lead_to_machines_behind_and_hidden_addresses_stay_hidden(build: Build) -> None:
    site = build(Site)
    web, guest = site["web"], site["guest"]
    with web.socket() as server, web.socket(type=socket.SOCK_DGRAM) as names:
        server.bind(("", 80))
        server.listen()
        with guest.connect(8080, "203.0.113.1"):
            assert peer_of_next(server) == "203.0.113.9"
        for inside in (site["desk"], web):
            with inside.connect(8080, "203.0.113.1"):
                assert peer_of_next(server) == "10.0.0.1"
            with pytest.raises(OSError, match="refused"):
                inside.connect(8080, "10.0.0.1")  # not what is forwarded
        names.bind(("", 53))
        names.settimeout(5)
        with guest.connect(53, "203.0.113.1", protocol="udp") as asker:
            asker.settimeout(5)
            asker.send(b"?")
            _, peer = names.recvfrom(9)
            names.sendto(b"!", peer)
            assert asker.recv(9) == b"!"
    for family, to, seen in (
        (socket.AF_INET, "203.0.113.9", "203.0.113.1"),
        (socket.AF_INET6, "2001:db8::9", "fd00:1::80"),
    ):
        with guest.socket(family) as server:
            server.bind((to, 80))
            server.listen()
            with web.connect(80, to):
                assert peer_of_next(server) == seen
