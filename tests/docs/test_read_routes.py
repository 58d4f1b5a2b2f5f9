"""The snippets of ``docs/how-to/read-routes.md``."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest

from pytest_carthage import Layout, Machine, Network
from tests.live.conftest import Build, build, portal, recorder, state  # noqa: F401

pytestmark = pytest.mark.real


class Shop(Layout):
    lan = Network("10.0.0.0/24")
    dmz = Network("192.0.2.0/24")
    gw = Machine(links={"lan0": lan.at(".1"), "dmz0": dmz.at(".1")}, forward=True)
    db = Machine(links={"eth0": lan.at(".10", gateway=".1")})
    web = Machine(links={"eth0": dmz.at(".20", gateway=".1")})


def test_network_is_looked_at_and_changed(build: Build) -> None:  # noqa: F811
    shop = build(Shop)
    # docs: view
    route = shop.web.network.route_to("10.0.0.10")
    assert route is not None
    assert route.via == ip_address("192.0.2.1")
    shop.web.ping("db")
    known = {one.address: one.state for one in shop.web.network.neighbours()}
    assert known[ip_address("192.0.2.1")] == "reachable"
    assert shop.gw.network.counters("lan0").sent_packets > 0
    # docs: end
    # docs: change
    with shop.gw.iproute() as ipr:
        ipr.route("add", dst="10.0.0.10/32", type="prohibit")
    assert shop.gw.network.route_to("10.0.0.10") is None
    blocked = {one.destination for one in shop.gw.network.routes() if one.kind == "prohibit"}
    assert blocked == {ip_network("10.0.0.10/32")}
    # docs: end
