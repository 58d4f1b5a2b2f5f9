"""Dynamic routing: what BIRD is told, and routes that are found, lost and found again."""

from __future__ import annotations

import time

import pytest

from pytest_carthage import Layout, Machine, Network, command
from pytest_carthage.errors import LayoutError
from pytest_carthage.live.machines.machine import MachineHandle
from pytest_carthage.planning import make_plan
from pytest_carthage.roles import OspfRouter, ospf_neighbours
from pytest_carthage.roles.bird import configuration
from tests.live.conftest import Build


class Triangle(Layout):
    """Three routers, two ways between any two of them, and an office at two of them."""

    ab = Network("203.0.113.0/30", "fd00:a::/64")
    bc = Network("203.0.113.4/30", "fd00:b::/64")
    ac = Network("203.0.113.8/30", "fd00:c::/64")
    west = Network("10.1.0.0/24", "fd00:1::/64")
    east = Network("10.3.0.0/24", "fd00:3::/64")
    outside = Network("198.51.100.0/24")

    a = Machine(
        links={"b": ab.at(".1", "::1"), "c": ac.at(".9", "::1"), "lan": west.at(".1", "::1")},
        roles=[OspfRouter(bfd=True)],
    )
    b = Machine(
        links={
            "a": ab.at(".2", "::2"),
            "c": bc.at(".5", "::1"),
            "out": outside.at(".1", gateway=".254"),
        },
        roles=[OspfRouter(bfd=True, interfaces=("a", "c"), default_route=True)],
    )
    c = Machine(
        links={"b": bc.at(".6", "::2"), "a": ac.at(".10", "::2"), "lan": east.at(".1", "::1")},
        roles=[OspfRouter(bfd=True, costs={"a": 50})],
    )
    world = Machine(links={"eth0": outside.at(".254")}, routes={"10.0.0.0/8": ".1"})
    pc = Machine(links={"eth0": west.at(".10", "::10", gateway=".1")})
    server = Machine(links={"eth0": east.at(".10", "::10", gateway=".1")})


def told(machine: str) -> list[str]:
    plan = make_plan(Triangle)
    planned = plan.machines[machine]
    (role,) = planned.roles
    assert isinstance(role, OspfRouter)
    return [line.strip() for line in configuration(plan, planned, role).splitlines()]


def test_links_to_other_routers_speak_and_the_others_are_only_told_of() -> None:
    a = told("a")
    lan = a.index('interface "lan" {')
    assert a[lan : lan + 3] == ['interface "lan" {', "stub;", "};"]
    b = a.index('interface "b" {')
    assert a[b : b + 4] == ['interface "b" {', "type ptp;", "hello 1; dead 4; wait 2;", "bfd yes;"]
    assert "router id 203.0.113.1;" in a
    assert "protocol ospf v3 ospf6 {" in a


def test_costs_interfaces_and_the_way_out_are_those_of_the_role() -> None:
    c = told("c")
    assert c[c.index('interface "a" {') + 1] == "cost 50;"
    b = told("b")
    assert 'interface "out" {' not in b
    assert "ipv4 { import all; export where net = 0.0.0.0/0 && source = RTS_INHERIT; };" in b


def test_three_on_one_network_choose_who_speaks_for_it() -> None:
    class Exchange(Layout):
        ix = Network("203.0.113.0/24")
        a = Machine(links={"eth0": ix.at()}, roles=[OspfRouter()])
        b = Machine(links={"eth0": ix.at()}, roles=[OspfRouter()])
        c = Machine(links={"eth0": ix.at()}, roles=[OspfRouter()])

    plan = make_plan(Exchange)
    text = configuration(plan, plan.machines["a"], OspfRouter())
    assert "type broadcast;" in text


class Unnumbered(Layout):
    """Two sites with IPv6, and between their routers a network that has IPv4 alone."""

    west = Network("fd00:1::/64")
    wire = Network("203.0.113.0/30", kind="point-to-point")
    east = Network("fd00:3::/64")
    quiet = Network("10.9.0.0/24", ipv6=False)
    a = Machine(
        links={"lan": west.at("::1"), "wan": wire.at(".1"), "old": quiet.at(".1")},
        roles=[OspfRouter()],
    )
    b = Machine(links={"wan": wire.at(".2"), "lan": east.at("::1")}, roles=[OspfRouter()])


def test_version_3_runs_where_there_are_only_link_local_addresses() -> None:
    plan = make_plan(Unnumbered)
    three = configuration(plan, plan.machines["a"], OspfRouter()).partition("ospf v3")[2]
    assert 'interface "wan" {\n      type ptp;' in three
    assert 'interface "old"' not in three


@pytest.mark.real
def test_ipv6_routes_are_found_over_a_network_without_a_subnet_of_it(build: Build) -> None:
    two = build(Unnumbered)
    two["a"].wait_for(command("ip -6 route show fd00:3::/64 | grep 'dev wan'"), timeout_s=30)
    two["a"].wait_for(ospf_neighbours(2))
    route = two["a"].network.route_to("fd00:3::1")
    assert route is not None
    assert route.via is not None
    assert route.via.is_link_local


def test_dead_time_that_is_no_longer_than_the_greeting_is_refused() -> None:
    with pytest.raises(LayoutError, match=r"hello_s=4 is not from 1 to below dead_s=4.*; try"):
        OspfRouter(hello_s=4)


def test_interface_that_there_is_not_is_refused() -> None:
    plan = make_plan(Triangle)
    machine = plan.machines["a"]
    for role in (OspfRouter(interfaces=("eth9",)), OspfRouter(costs={"eth9": 1})):
        with pytest.raises(
            LayoutError, match=r"OspfRouter\(\w+=\.\.\.\) names 'eth9'.*one of b, c"
        ):
            configuration(plan, machine, role)


def _reaches(machine: MachineHandle, address: str) -> None:
    """Wait until an echo comes back: each router on the way has to find its own route."""
    deadline = time.monotonic() + 15
    while True:
        try:
            machine.ping(address, timeout_s=0.5)
        except OSError:
            if time.monotonic() > deadline:
                raise
        else:
            return


@pytest.mark.real
def test_routes_are_found_and_found_again_when_a_link_is_lost(build: Build) -> None:
    triangle = build(Triangle)
    a, c, pc = (triangle[name] for name in ("a", "c", "pc"))
    for machine in (a, c):
        machine.wait_for(ospf_neighbours(4))  # two by IPv4 and two by IPv6
        machine.wait_for(command("ip route get 198.51.100.254"))  # the default route of b
    a.wait_for(command("ip route show 10.3.0.0/24 | grep 'dev c '"))
    a.wait_for(command("ip -6 route show fd00:3::/64 | grep 'dev c '"))
    c.wait_for(command("ip route show 10.1.0.0/24 | grep 'dev b '"))  # dear by a
    assert "10.3.0.0/24" in a.run("birdc show route").stdout
    _reaches(pc, "10.3.0.10")
    _reaches(pc, "198.51.100.254")
    # what a machine was given is not told to it once more
    assert a.run("ip route show 10.1.0.0/24").stdout.count("\n") == 1
    # nobody tells of a cable that is cut elsewhere, as where it ends in a switch: BFD notices
    a.run("nft add table inet cut")
    a.run("nft add chain inet cut in '{ type filter hook input priority 0; }'")
    a.run("nft add rule inet cut in iifname c drop")
    a.wait_for(command("ip route show 10.3.0.0/24 | grep 'dev b '"), timeout_s=10)
    _reaches(pc, "10.3.0.10")
    a.run("nft delete table inet cut")
    a.wait_for(command("ip route show 10.3.0.0/24 | grep 'dev c '"))


@pytest.mark.real
def test_router_that_is_started_again_takes_part_again(build: Build) -> None:
    class Two(Layout):
        net = Network("203.0.113.0/30")
        a = Machine(links={"eth0": net.at(".1")}, roles=[OspfRouter()])
        b = Machine(links={"eth0": net.at(".2")}, roles=[OspfRouter()])

    two = build(Two)
    two["a"].wait_for(ospf_neighbours(1))
    two["b"].restart()
    two["b"].wait_for(ospf_neighbours(1))
