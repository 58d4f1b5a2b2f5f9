"""What a plan asks of the kernel, and who is told to need it."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address
from types import MappingProxyType
from typing import Any

import pytest

from pytest_carthage import Layout, Machine, Network, trunk
from pytest_carthage.errors import Problem
from pytest_carthage.fabric.host import capability
from pytest_carthage.placing.needs import kernel_needs, missing_links
from pytest_carthage.planning import make_plan
from pytest_carthage.planning.plan import Plan, PlannedUnderlay
from pytest_carthage.planning.traits import Traits

TARGETS = {
    "here": Traits(root="host", init=False, outside=False, is_default=True),
    "there": Traits(root="host", init=False, outside=False),
}


def plan_of(**members: Any) -> Plan:
    return make_plan(Layout.of("Shop", members), targets=TARGETS)


def ends(kind: Any) -> Plan:
    """Two machines with a tunnel between them."""
    lan, tunnel = Network("10.0.0.0/24"), Network("10.9.0.0/24", kind=kind)
    links = {"eth0": lan.at(), "t0": tunnel.at(over="eth0")}
    return plan_of(lan=lan, tunnel=tunnel, a=Machine(links=links), b=Machine(links=links))


def test_ordinary_links_and_wires_need_nothing() -> None:
    lan = Network("10.0.0.0/24", "fd00::/64")
    wire = Network("10.1.0.0/30", kind="point-to-point")
    plan = plan_of(
        lan=lan,
        wire=wire,
        a=Machine(links={"eth0": lan.at(), "w0": wire.at()}),
        b=Machine(links={"w0": wire.at()}),
    )
    assert kernel_needs(plan, "here") == {}


@pytest.mark.parametrize("kind", ["gre", "vxlan"])
def test_tunnel_is_needed_by_its_network(kind: str) -> None:
    assert kernel_needs(ends(kind), "here") == {kind: f"network 'tunnel' of kind {kind}"}


def test_tunnel_over_ipv6_needs_more_than_one_over_ipv4() -> None:
    plan = ends("gre")
    underlay = PlannedUnderlay(local=ip_address("fd00::1"), remotes=(ip_address("fd00::2"),))
    machines = {
        name: replace(
            machine,
            links=tuple(
                replace(link, underlay=underlay) if link.underlay else link
                for link in machine.links
            ),
        )
        for name, machine in plan.machines.items()
    }
    plan = replace(plan, machines=MappingProxyType(machines))
    assert kernel_needs(plan, "here") == {"gre6": "network 'tunnel' of kind gre"}


def test_trunk_and_what_stands_on_it_need_one_thing_which_the_first_is_told_for() -> None:
    lan = Network("10.0.0.0/24", vlan_id=10)
    plan = plan_of(lan=lan, gw=Machine(links={"eth0": trunk(lan), "lan0": lan.at(over="eth0")}))
    assert kernel_needs(plan, "here") == {"vlan": "link 'eth0' of machine 'gw', a trunk"}


@pytest.mark.parametrize(
    ("link", "needs"),
    [
        ({"kind": "macvlan"}, {"macvlan": "link 'x0' of machine 'gw', a macvlan"}),
        ({"bond": ("eth0", "eth1")}, {"bond": "link 'x0' of machine 'gw', a bond"}),
    ],
)
def test_link_of_a_special_kind_is_needed_by_itself(
    link: dict[str, Any], needs: dict[str, str]
) -> None:
    lan = Network("10.0.0.0/24")
    plan = plan_of(lan=lan, gw=Machine(links={"x0": lan.at(**link)}))
    assert kernel_needs(plan, "here") == needs


def test_every_need_of_a_plan_is_told_for_the_first_that_has_it() -> None:
    lan = Network("10.0.0.0/24")
    plan = plan_of(
        lan=lan,
        a=Machine(links={"a0": lan.at(kind="macvlan"), "a1": lan.at(bond=("p0", "p1"))}),
        b=Machine(links={"b0": lan.at(kind="macvlan")}),
    )
    assert list(kernel_needs(plan, "here").items()) == [
        ("macvlan", "link 'a0' of machine 'a', a macvlan"),
        ("bond", "link 'a1' of machine 'a', a bond"),
    ]


def test_needs_are_those_of_the_machines_of_one_target() -> None:
    lan = Network("10.0.0.0/24")
    plan = plan_of(
        lan=lan,
        a=Machine(links={"eth0": lan.at()}),
        b=Machine(links={"eth0": lan.at(kind="macvlan")}, on="there"),
    )
    assert kernel_needs(plan, "here") == {}
    assert kernel_needs(plan, "there") == {"macvlan": "link 'eth0' of machine 'b', a macvlan"}
    assert kernel_needs(plan, "nowhere") == {}


def test_every_need_is_one_that_the_kernel_can_be_asked_for() -> None:
    from pytest_carthage.placing import needs

    assert {*needs._NEEDS.values(), "gre6"} <= set(capability.NAMES)


def test_kernel_is_not_asked_where_nothing_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    def asked(*_: object) -> list[Problem]:
        raise AssertionError("the kernel was asked")

    monkeypatch.setattr(capability, "problems", asked)
    lan = Network("10.0.0.0/24")
    plan = plan_of(lan=lan, a=Machine(links={"eth0": lan.at()}))
    assert missing_links("here", plan) == []
    with pytest.raises(AssertionError, match="asked"):
        missing_links("here", ends("gre"))


def test_what_the_kernel_lacks_is_told_with_who_needs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(capability, "_known", {"gre": "Operation not supported", "vlan": None})
    (problem,) = missing_links("here", ends("gre"))
    assert problem.who == "here"
    assert problem.what.startswith(
        "network 'tunnel' of kind gre: this kernel cannot make GRE tunnels (Linux "
    )
    assert problem.what.endswith(": Operation not supported)")
    assert problem.remedy == (
        "a kernel with the module ip_gre (Debian's own has it; modprobe ip_gre)"
    )
