"""The place that Ansible works from: on which networks, with which addresses and routes."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from pytest_carthage import Layout, Machine, Network, V4Config
from pytest_carthage.errors import LayoutError
from pytest_carthage.planning import extend_plan, make_plan, plan_control, plan_station
from pytest_carthage.planning.plan import Plan


def plan_of(**members: object) -> Plan:
    return make_plan(Layout.of("Shop", members))


def test_control_is_on_each_network_and_has_one_default_route() -> None:
    lan = Network(v4=V4Config(network="10.0.0.0/24", gateway=".1"))
    dmz = Network(v4=V4Config(network="192.0.2.0/24", gateway=".1"))
    gw = Machine(links={"lan0": lan.at(".1"), "dmz0": dmz.at(".1")})
    control = plan_control(plan_of(lan=lan, dmz=dmz, gw=gw))
    assert [(link.interface, link.network, str(link.address)) for link in control.links] == [
        ("eth0", "lan", "10.0.0.254/24"),
        ("eth1", "dmz", "192.0.2.254/24"),
    ]
    gateways = [link.v4 and link.v4.gateway for link in control.links]
    assert gateways == [ip_address("10.0.0.1"), None]
    assert control.left_out == {}


def test_control_is_the_same_however_often() -> None:
    lan = Network(v4=V4Config(network="10.0.0.0/24", gateway=".1"))
    first = plan_control(plan_of(lan=lan, gw=Machine(links={"eth0": lan.at(".1")})))
    again = plan_control(first.plan)
    assert (again.links, again.plan) == (first.links, first.plan)


def test_control_and_another_station_have_addresses_of_their_own() -> None:
    plan, link = plan_station(plan_of(lan=Network("10.0.0.0/24")), "lan")
    (own,) = plan_control(plan).links
    assert (str(link.address), str(own.address)) == ("10.0.0.254/24", "10.0.0.253/24")
    assert own.port != link.port
    assert own.mac != link.mac


def test_control_keeps_its_address_from_those_that_join() -> None:
    lan = Network("10.0.0.0/29")
    plan = plan_control(plan_of(lan=lan)).plan
    with pytest.raises(LayoutError, match=r"'10\.0\.0\.6' .* is taken by machine 'station on lan'"):
        extend_plan(plan, "a", Machine(links={"eth0": lan.at(".6")}))
    _, machine = extend_plan(plan, "a", Machine(links={"eth0": lan.at()}))
    assert str(machine.links[0].address) == "10.0.0.1/29"


def test_control_tells_which_networks_it_is_not_on() -> None:
    lan, twin, full = Network("10.0.0.0/24"), Network("10.0.0.0/16"), Network("192.0.2.0/30")
    machines = {name: Machine(links={"eth0": full.at()}) for name in "ab"}
    control = plan_control(plan_of(lan=lan, twin=twin, full=full, **machines))
    assert [link.network for link in control.links] == ["lan"]
    assert control.left_out == {
        "twin": "it has the addresses of network 'lan'",
        "full": "network 'full' of layout 'Shop': no address is left in 192.0.2.0/30 for a"
        " station; try: a larger network",
    }


def test_control_is_not_on_wires_and_networks_of_frames() -> None:
    wire, frames = Network("10.0.0.0/31", kind="point-to-point"), Network()
    control = plan_control(plan_of(wire=wire, frames=frames))
    assert (control.links, control.left_out) == ((), {})
