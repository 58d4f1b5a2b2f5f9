"""What the kernel says of a network, in the words of ip(8)."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any

import pytest

from pytest_carthage.handles.network import (
    Counters,
    InterfaceAddress,
    InterfaceState,
    Neighbour,
    NextHop,
    Route,
)

HOP = NextHop(via=ip_address("10.0.0.1"), interface="eth0")
ROUTE = Route(
    destination=ip_network("10.1.0.0/16"),
    hops=(HOP,),
    protocol="static",
    metric=0,
    kind="unicast",
    table=254,
    source=None,
)
STATE = InterfaceState(
    name="eth0",
    index=2,
    mac="02:00:00:00:00:01",
    mtu=1500,
    is_up=True,
    has_carrier=True,
    kind="veth",
    master=None,
)
ADDRESS = InterfaceAddress(
    interface="eth0",
    address=ip_interface("10.0.0.1/24"),
    scope="global",
    peer=None,
    is_tentative=False,
)
NEIGHBOUR = Neighbour(
    address=ip_address("10.0.0.1"),
    interface="eth0",
    mac="02:00:00:00:00:01",
    state="reachable",
    is_router=False,
)
COUNTERS = Counters(
    interface="eth0",
    received_bytes=840,
    received_packets=12,
    received_errors=0,
    received_dropped=0,
    sent_bytes=126,
    sent_packets=3,
    sent_errors=0,
    sent_dropped=0,
)


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (ROUTE, "<Route 10.1.0.0/16 via 10.0.0.1 dev eth0 proto static>"),
        (
            replace(ROUTE, metric=20, table=100, source=ip_address("10.0.0.9")),
            "<Route 10.1.0.0/16 via 10.0.0.1 dev eth0 proto static metric 20 table 100 "
            "src 10.0.0.9>",
        ),
        (replace(ROUTE, kind="blackhole", hops=()), "<Route blackhole 10.1.0.0/16 proto static>"),
        (
            replace(ROUTE, hops=(HOP, replace(HOP, interface="eth1", weight=2))),
            "<Route 10.1.0.0/16 via 10.0.0.1 dev eth0 via 10.0.0.1 dev eth1 weight 2 proto static>",
        ),
        (HOP, "<NextHop via 10.0.0.1 dev eth0>"),
        (replace(HOP, via=None, interface=None), "<NextHop nowhere>"),
        (STATE, "<InterfaceState eth0: up, mtu 1500, veth, 02:00:00:00:00:01>"),
        (
            replace(STATE, is_up=False, has_carrier=False, mac=None, kind="", master="br0"),
            "<InterfaceState eth0: down, no carrier, mtu 1500, in br0>",
        ),
        (ADDRESS, "<InterfaceAddress 10.0.0.1/24 on eth0, global>"),
        (
            replace(ADDRESS, peer=ip_address("10.0.0.2"), is_tentative=True),
            "<InterfaceAddress 10.0.0.1/24 peer 10.0.0.2 on eth0, global, tentative>",
        ),
        (NEIGHBOUR, "<Neighbour 10.0.0.1 on eth0: 02:00:00:00:00:01, reachable>"),
        (
            replace(NEIGHBOUR, mac=None, state="failed", is_router=True),
            "<Neighbour 10.0.0.1 on eth0: no address, failed, a router>",
        ),
        (
            COUNTERS,
            "<Counters of eth0: received 12 packets, 840 bytes; sent 3 packets, 126 bytes>",
        ),
        (
            replace(COUNTERS, received_errors=1, sent_dropped=2),
            "<Counters of eth0: received 12 packets, 840 bytes, 1 errors; "
            "sent 3 packets, 126 bytes, 2 dropped>",
        ),
    ],
)
def test_value_is_told_in_a_few_words(value: Any, told: str) -> None:
    assert repr(value) == told
