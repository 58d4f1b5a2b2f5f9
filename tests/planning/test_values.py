"""Values of a plan: what they tell of themselves, and the hosts files that follow."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from typing import Any

import pytest

from pytest_carthage import Layout, Machine, Network, V4Config, trunk
from pytest_carthage.planning import make_plan
from pytest_carthage.planning.plan import Plan, PlannedMachine, PlannedNetwork
from pytest_carthage.roles import DhcpServer


def plan_of(**members: Any) -> Plan:
    return make_plan(Layout.of("Shop", members))


def test_hosts_file_begins_with_this_host_and_names_every_address() -> None:
    lan = Network("10.0.0.0/24", "fd00::/64")
    plan = plan_of(
        lan=lan,
        web=Machine(
            hostname="www.shop.example",
            links={
                "eth0": lan.at(
                    ".1", "::1", dns_name="shop.example", secondary_addresses=["10.0.0.9"]
                )
            },
        ),
        db=Machine(links={"eth0": lan.at(".2", "::2", dns_name="db")}),
    )
    assert plan.hosts_file(["lan"]) == (
        "127.0.0.1 localhost\n"
        "::1 localhost ip6-localhost ip6-loopback\n"
        "10.0.0.1 www.shop.example web shop.example\n"
        "10.0.0.9 www.shop.example web shop.example\n"
        "fd00::1 www.shop.example web shop.example\n"
        "10.0.0.2 db\n"
        "fd00::2 db\n"
    )
    assert plan.hosts_file([]) == plan.hosts_file(["lan"])
    assert not plan.has_twins


def test_hosts_file_of_a_layout_without_machines_has_this_host() -> None:
    assert plan_of().hosts_file([]) == (
        "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n"
    )


def test_address_that_is_asked_for_is_in_no_hosts_file() -> None:
    lan = Network(v4=V4Config(network="10.0.0.0/24", dhcp_ranges=[(".100", ".199")]))
    plan = plan_of(
        lan=lan,
        server=Machine(links={"eth0": lan.at(".1")}, roles=[DhcpServer()]),
        client=Machine(links={"eth0": lan.at(dhcp=True)}),
    )
    assert dict(plan.hosts) == {"10.0.0.1": ("server",)}
    assert plan.machines["client"].asks_dhcp
    assert not plan.machines["server"].asks_dhcp


def twins() -> Plan:
    """Two networks of the same addresses, and one of others."""
    east, west = Network("10.0.0.0/24"), Network("10.0.0.0/24")
    far = Network("10.1.0.0/24")
    return plan_of(
        east=east,
        west=west,
        far=far,
        a=Machine(links={"eth0": east.at(".1")}),
        b=Machine(links={"eth0": west.at(".1")}),
        c=Machine(links={"eth0": west.at(".2")}),
        d=Machine(links={"eth0": far.at(".1")}),
    )


@pytest.mark.parametrize(
    ("networks", "hosts"),
    [
        # an address of one's own network means what it means there, or nothing
        (["east"], {"10.0.0.1": ("a",), "10.1.0.1": ("d",)}),
        (["west"], {"10.0.0.1": ("b",), "10.0.0.2": ("c",), "10.1.0.1": ("d",)}),
        # from elsewhere, one that means two machines means none
        (["far"], {"10.0.0.2": ("c",), "10.1.0.1": ("d",)}),
        ([], {"10.0.0.2": ("c",), "10.1.0.1": ("d",)}),
    ],
)
def test_address_of_two_machines_is_told_to_who_can_mean_one(
    networks: list[str], hosts: dict[str, tuple[str, ...]]
) -> None:
    plan = twins()
    assert plan.has_twins
    assert dict(plan.hosts_in(networks)) == hosts


@pytest.mark.parametrize(
    ("first", "second", "has_twins"),
    [
        ("10.0.0.0/24", "10.0.1.0/24", False),
        ("10.0.0.0/16", "10.0.1.0/24", True),
        ("10.0.1.0/24", "10.0.0.0/16", True),
        ("fd00::/64", "10.0.0.0/24", False),
        ("fd00::/64", "fd00::/48", True),
    ],
)
def test_plan_has_twins_where_networks_overlap(first: str, second: str, has_twins: bool) -> None:
    assert plan_of(a=Network(first), b=Network(second)).has_twins is has_twins


def test_machine_is_on_each_of_its_networks_once_and_a_trunk_on_none() -> None:
    lan, dmz = Network("10.0.0.0/24", vlan_id=1), Network("10.1.0.0/24", vlan_id=2)
    plan = plan_of(
        lan=lan,
        dmz=dmz,
        gw=Machine(
            links={
                "eth0": trunk(lan, dmz),
                "d0": dmz.at(over="eth0"),
                "l0": lan.at(over="eth0"),
                "l1": lan.at(),
            }
        ),
    )
    gw = plan.machines["gw"]
    assert gw.networks == ("lan", "dmz")
    assert gw.links[0].addresses == ()


def test_network_of_frames_has_no_subnet() -> None:
    network = PlannedNetwork(name="frames", bridge="br-frames")
    assert (network.subnets, network.subnet, network.kind) == ((), None, "bridged")


def test_machine_of_few_words_has_plain_values() -> None:
    machine = PlannedMachine(name="a", hostname="a", target="here", image=None, links=())
    assert (machine.routes, machine.forwards, machine.roles, machine.after) == ((), (), (), ())
    assert (machine.command, machine.init, machine.limits) == (None, None, None)
    assert (dict(machine.env), dict(machine.variables)) == ({}, {})
    assert (machine.forward, machine.ready_timeout_s) == (False, 60.0)
    assert machine.networks == ()
    with pytest.raises(FrozenInstanceError):
        machine.name = "b"  # type: ignore[misc]
    with pytest.raises(TypeError):
        machine.env["A"] = "1"  # type: ignore[index]


def test_link_is_known_by_its_ipv4_address_where_it_has_both() -> None:
    lan = Network("10.0.0.0/24", "fd00::/64")
    plan = plan_of(
        lan=lan,
        gw=Machine(links={"eth0": lan.at(".9", "::9")}),
        both=Machine(links={"eth0": lan.at(".1", "::1", gateway="::9")}),
        six=Machine(links={"eth0": lan.at("::2")}),
        none=Machine(links={"eth0": lan.at(None)}),
    )
    addresses = {name: one.links[0].address for name, one in plan.machines.items()}
    assert {name: str(address) for name, address in addresses.items()} == {
        "gw": "10.0.0.9/24",
        "both": "10.0.0.1/24",
        "six": "fd00::2/64",
        "none": "None",
    }
    (link,) = plan.machines["both"].links
    assert str(link.gateway) == "fd00::9"
    assert [str(one) for one in link.addresses] == ["10.0.0.1/24", "fd00::1/64"]
    assert plan.machines["none"].links[0].gateway is None
