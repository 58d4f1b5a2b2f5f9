"""Random plans: each is refused with a message that names the offender, or realised as written."""

from __future__ import annotations

import re
from collections.abc import Callable
from ipaddress import ip_interface
from typing import Any

import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from pytest_carthage import Layout, LayoutError, Machine, Network, Role, V4Config, V6Config
from pytest_carthage.planning import extend_plan, make_plan
from pytest_carthage.planning.plan import Plan, PlannedMachine
from tests.live.conftest import end

Build = Callable[..., Layout]


class Server(Role):
    """Stands for whatever gives addresses."""

    serves_dhcp = True


def mostly(good: Any, *bad: Any) -> st.SearchStrategy[Any]:
    """What is right, and now and then one of what is not."""
    return st.integers(0, 24).flatmap(lambda number: st.sampled_from(bad) if number == 13 else good)


def one_of(*values: Any) -> st.SearchStrategy[Any]:
    return st.sampled_from(values)


def config4(draw: st.DrawFn, number: int) -> V4Config:
    length = draw(one_of(16, 24, 24, 24, 28, 29, 31))
    wide = length <= 24
    base = draw(mostly(st.just(f"10.{number}.0.0"), "10.0.0.0", "10.0.1.0", "8.8.8.8"))
    ranges = one_of(None, [(".100", ".120")]) if wide else st.none()
    return V4Config(
        network=f"{base}/{length}",
        gateway=draw(mostly(st.none(), ".1", ".2", ".77")),
        pool=draw(mostly(one_of(None, (".50", ".60")) if wide else st.none(), (".6", ".2"))),
        dhcp_ranges=draw(mostly(ranges, [(".55", ".120")])),
        masquerade=draw(one_of(None, None, None, True)),
        external_addresses=draw(one_of(None, None, [".1"])) if wide else None,
    )


@st.composite
def networks(draw: st.DrawFn, number: int) -> Network:
    families = draw(one_of("4", "4", "4", "6", "46", ""))
    options: dict[str, Any] = {}
    if "4" in families:
        options["v4"] = config4(draw, number)
    if "6" in families:
        length = draw(mostly(one_of(64, 64, 120), 126, 128))
        options["v6"] = V6Config(
            network=f"fd00:{number}::/{length}",
            slaac=draw(mostly(st.none(), True)),
        )
    options["mtu"] = draw(mostly(one_of(None, None, 1500, 1280, 9000), 68, 576))
    options["vlan_id"] = draw(mostly(one_of(None, number + 1), 4094, 4095))
    options["kind"] = draw(one_of("bridged", "bridged", "bridged", "point-to-point"))
    return Network(**options)


def address(draw: st.DrawFn, network: Network) -> tuple[Any, ...]:
    """What an author may write for this network, right or wrong."""
    written = [("auto",), (None,), ()]
    for version, endings in ((4, (".3", ".9", ".0")), (6, ("::3", "::9", "::"))):
        if network.config(version) is not None:
            written += [(ending,) for ending in endings[:2]] * 2
    wrong = (".0", ".260", "10.0.0.5", "8.8.8.8", "::7", "fd00::9", "ten", "")
    return draw(mostly(st.sampled_from(written), *((one,) for one in wrong)))


@st.composite
def members(draw: st.DrawFn) -> dict[str, object]:
    """What a class body would hold: up to 3 networks and 5 machines."""
    known = {f"net{number}": draw(networks(number)) for number in range(draw(st.integers(1, 3)))}
    found: dict[str, object] = dict(known)
    for number in range(draw(st.integers(1, 5))):
        links = {}
        for interface in draw(st.lists(one_of("eth0", "eth1", "lan"), max_size=2, unique=True)):
            network = known[draw(st.sampled_from(sorted(known)))]
            links[interface] = network.at(
                *address(draw, network),
                gateway=draw(mostly(one_of(None, None, False), ".3")),
                dhcp=draw(mostly(st.none(), True)),
                mac=draw(mostly(st.none(), "02:00:00:00:00:01", "03:00:00:00:00:01")),
                mtu=draw(mostly(one_of(None, None, 1400), 1000)),
                metric=draw(mostly(one_of(None, None, 100), -1)),
                admin_up=draw(one_of(True, True, True, False)),
                secondary_addresses=draw(
                    mostly(st.none(), [".33"], [(".44", "203.0.113.9")], ["10.99.0.1"])
                ),
            )
        found[f"m{number}"] = Machine(
            links=links, roles=[Server()] if draw(st.integers(0, 9)) == 0 else []
        )
    return found


def planned(found: dict[str, object]) -> Plan | LayoutError:
    try:
        return make_plan(Layout.of("Shop", found))
    except LayoutError as error:
        return error


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(found=members())
def test_any_plan_is_made_the_same_twice_or_names_its_offender(found: dict[str, object]) -> None:
    plan = planned(found)
    again = planned(dict(found))
    if isinstance(plan, LayoutError):
        assert str(plan) == str(again)
        assert re.match(r"(machine 'm\d'|network 'net\d') of layout 'Shop': .+", str(plan))
        assert re.search(r"; declared at \S+:\d+; try: .+", str(plan))
        return
    assert plan == again
    note(repr(plan))
    for network in plan.networks.values():
        here = [
            (machine.name, link)
            for machine in plan.machines.values()
            for link in machine.links
            if link.network == network.name
        ]
        having = [address.ip for _, link in here for address in link.addresses]
        assert len(set(having)) == len(having)
        macs = [link.mac for _, link in here]
        assert len(set(macs)) == len(macs)
        for name, link in here:
            for addressing in link.addressings:
                for address in link.addresses:
                    assert any(address.ip in one.network for one in link.addressings)
                if addressing.gateway is not None:
                    assert addressing.gateway in addressing.network
                    assert addressing.gateway not in [one.ip for one in link.addresses], name
    for machine in plan.machines.values():
        for version in (4, 6):
            metrics = [
                one.metric or 0
                for link in machine.links
                for one in link.addressings
                if one.gateway is not None and one.gateway.version == version
            ]
            assert len(set(metrics)) == len(metrics)


@settings(max_examples=200, deadline=None)
@given(found=members(), written=one_of((), ("auto",), (None,), (".3",), ("::9",), ("ten",)))
def test_machine_that_joins_changes_nothing_that_is_planned(
    found: dict[str, object], written: tuple[Any, ...]
) -> None:
    plan = planned(found)
    if isinstance(plan, LayoutError):
        return
    network = next(value for value in found.values() if isinstance(value, Network))
    try:
        extended, joined = extend_plan(plan, "late", Machine(links={"eth0": network.at(*written)}))
    except LayoutError as error:
        refusal = str(error)
    else:
        refusal = ""
    if refusal:
        assert refusal.startswith("machine 'late' of layout 'Shop': ")
        return
    assert {name: extended.machines[name] for name in plan.machines} == dict(plan.machines)
    taken = {
        one.ip
        for machine in plan.machines.values()
        for link in machine.links
        if link.network == joined.links[0].network
        for one in link.addresses
    }
    assert not taken & {one.ip for one in joined.links[0].addresses}


@pytest.mark.real
@settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.filter_too_much],
)
@given(found=members().filter(lambda found: isinstance(planned(found), Plan)))
def test_plan_that_is_not_refused_is_realised_as_written(
    build: Build, found: dict[str, object]
) -> None:
    layout = Layout.of("Shop", _without_askers(found))
    environment = build(layout)
    try:
        for machine in environment.plan.machines.values():
            _compare(machine, environment[machine.name].observe())
    finally:
        end(environment)


def _without_askers(found: dict[str, object]) -> dict[str, object]:
    """Machines that ask a server have tests of their own: here nobody would answer."""
    plan = planned(found)
    assert isinstance(plan, Plan)
    asking = [
        machine.name
        for machine in plan.machines.values()
        if any(one.asks for link in machine.links for one in link.addressings)
    ]
    return {name: value for name, value in found.items() if name not in asking}


def _compare(machine: PlannedMachine, seen: dict[str, Any]) -> None:
    rows = [row for row in seen["addresses"] if row["interface"] != "lo"]
    assert {row["interface"] for row in rows} == {link.interface for link in machine.links}
    for link in machine.links:
        own = [row for row in rows if row["interface"] == link.interface]
        addresses = {
            ip_interface(row["address"])
            for row in own
            if row["address"] is not None and not ip_interface(row["address"]).is_link_local
        }
        expected = set(link.addresses)
        if not link.admin_up:
            addresses = {one for one in addresses if one.version == 4}
            expected = {one for one in expected if one.version == 4}
        assert addresses == expected
        assert {row["mac"] for row in own} == {link.mac}
        assert {row["up"] for row in own} == {link.admin_up}
    defaults = {
        (row["via"], row["interface"]) for row in seen["routes"] if row["destination"] == "default"
    }
    assert defaults == {
        (str(one.gateway), link.interface)
        for link in machine.links
        for one in link.addressings
        if one.gateway is not None and link.admin_up
    }
