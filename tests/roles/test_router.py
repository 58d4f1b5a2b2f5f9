from __future__ import annotations

import pytest

from pytest_carthage import Forward, Layout, Machine, Network, port
from pytest_carthage.planning import make_plan
from pytest_carthage.roles import Router
from tests.live.conftest import Build


class Behind(Layout):
    lan = Network("10.0.0.0/24")
    wan = Network("198.51.100.0/24")
    gw = Machine(
        links={"lan0": lan.at(".1"), "wan0": wan.at(".1")},
        roles=[Router(masquerade="wan0", forwards=[Forward("wan0", 80, to="web", to_port=8080)])],
    )
    web = Machine(
        links={"eth0": lan.at(".80", gateway=".1")},
        command="python3 -u -m http.server --directory /srv 8080",
        wait_for=port(8080),
    )
    client = Machine(links={"eth0": wan.at(".7")})


def test_forwards_and_masquerade_of_the_role_are_the_machines() -> None:
    gw = make_plan(Behind).machines["gw"]
    (forward,) = gw.forwards
    shown = (forward.interface, forward.port, str(forward.to), forward.to_port)
    assert shown == ("wan0", 80, "10.0.0.80", 8080)
    assert gw.forward
    assert [link.interface for link in gw.links if link.masquerade] == ["wan0"]


@pytest.mark.real
def test_port_of_the_router_leads_to_the_machine_behind_it(build: Build) -> None:
    behind = build(Behind)
    client = behind["client"]
    with client.connect(80, "198.51.100.1") as sock:
        sock.settimeout(5)
        sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
        assert sock.recv(100).startswith(b"HTTP/1.0 200")
    with pytest.raises(OSError, match=r"10\.0\.0\.80"):  # there is no other way to it
        client.connect(8080, "10.0.0.80", timeout_s=0.5)
