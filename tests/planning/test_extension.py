"""Machines that join or leave a plan: what is there stays, and what is given up is free again."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_carthage import (
    Forward,
    Image,
    Layout,
    LayoutError,
    Machine,
    Network,
    Role,
    V4Config,
    V6Config,
)
from pytest_carthage.planning import extend_plan, make_plan, plan_station, reduce_plan, waves
from pytest_carthage.planning.plan import Plan, PlannedMachine
from pytest_carthage.planning.traits import Traits
from pytest_carthage.roles import DhcpServer

TARGETS = {"here": Traits(root="host", init=False, outside=False, is_default=True)}


def plan_of(**members: Any) -> Plan:
    return make_plan(Layout.of("Shop", members), targets=TARGETS)


def with_image(**members: Any) -> Plan:
    traits = Traits(root="image", init=True, outside=False, needs="folders", is_default=True)
    return make_plan(Layout.of("Shop", members), targets={"pod": traits})


def as_joined(plan: Plan, machines: Mapping[str, Machine]) -> Plan:
    for name, machine in machines.items():
        plan, _ = extend_plan(plan, name, machine)
    return plan


def decided(machine: PlannedMachine) -> tuple[object, ...]:
    return (machine.name, machine.hostname, machine.links, machine.routes, machine.after)


@settings(max_examples=50)
@given(fixed=st.lists(st.integers(1, 14), unique=True, max_size=5), joining=st.integers(0, 5))
def test_machines_that_join_one_by_one_get_what_they_had_got_together(
    fixed: list[int], joining: int
) -> None:
    lan = Network("10.0.0.0/28", "fd00::/64")
    first = {f"f{number}": Machine(links={"eth0": lan.at(f".{number}")}) for number in fixed}
    more = {
        f"a{number}": Machine(links={"eth0": lan.at(), "eth1": lan.at(None)})
        for number in range(joining)
    }
    together = plan_of(lan=lan, **first, **more)
    lan2 = Network("10.0.0.0/28", "fd00::/64")
    first = {f"f{number}": Machine(links={"eth0": lan2.at(f".{number}")}) for number in fixed}
    more = {
        f"a{number}": Machine(links={"eth0": lan2.at(), "eth1": lan2.at(None)})
        for number in range(joining)
    }
    joined = as_joined(plan_of(lan=lan2, **first), more)
    assert list(map(decided, joined.machines.values())) == list(
        map(decided, together.machines.values())
    )
    assert joined.hosts == together.hosts


@given(data=st.data(), count=st.integers(1, 6))
def test_machine_that_leaves_and_joins_again_is_what_it_was(
    data: st.DataObject, count: int
) -> None:
    lan = Network("10.0.0.0/28")
    machines = {f"m{number}": Machine(links={"eth0": lan.at()}) for number in range(count)}
    plan = plan_of(lan=lan, **machines)
    name = data.draw(st.sampled_from(sorted(machines)))
    without = reduce_plan(plan, name)
    assert name not in without.machines
    again, planned = extend_plan(without, name, machines[name])
    assert decided(planned) == decided(plan.machines[name])
    assert again.machines == plan.machines
    assert again.hosts == plan.hosts
    # nobody else has noticed
    for other in set(machines) - {name}:
        assert again.machines[other] is plan.machines[other]


def test_machine_that_joins_changes_nothing_of_the_plan_that_it_joins() -> None:
    lan = Network("10.0.0.0/24")
    plan = plan_of(lan=lan, a=Machine(links={"eth0": lan.at()}))
    before = dict(plan.machines)
    extended, _ = extend_plan(plan, "b", Machine(links={"eth0": lan.at()}))
    assert dict(plan.machines) == before
    assert list(extended.machines) == ["a", "b"]
    assert extended.networks is plan.networks
    with pytest.raises(TypeError):
        extended.machines["c"] = extended.machines["a"]  # type: ignore[index]


def test_machine_that_there_is_not_cannot_leave() -> None:
    with pytest.raises(KeyError, match="db"):
        reduce_plan(plan_of(a=Machine()), "db")


def test_nobody_waits_for_a_machine_that_left_and_it_may_wait_for_them_when_it_joins() -> None:
    plan = plan_of(db=Machine(), web=Machine(after="db"), cache=Machine(after=["db", "web"]))
    without = reduce_plan(plan, "db")
    assert {name: one.after for name, one in without.machines.items()} == {
        "web": (),
        "cache": ("web",),
    }
    again, _ = extend_plan(without, "db", Machine(after="web"))
    assert waves(again) == [["web"], ["cache", "db"]]


@pytest.mark.parametrize(
    ("machine", "message"),
    [
        (
            Machine(hostname="front"),
            "machine 'new' of layout 'Shop': host name 'front' is taken by machine 'web'",
        ),
        (
            Machine(hostname="WEB"),
            "machine 'new' of layout 'Shop': host name 'web' is taken by machine 'web'",
        ),
        (
            Machine(hostname="www.shop.example"),
            "machine 'new' of layout 'Shop': host name 'www.shop.example' is the dns_name of"
            " interface 'eth0' of machine 'web'",
        ),
        (
            Machine(after="db"),
            "machine 'new' of layout 'Shop': after='db': the layout has no such machine, it has"
            " 'web'",
        ),
        (
            Machine(init="openrc"),  # type: ignore[arg-type]
            "machine 'new' of layout 'Shop': init 'openrc' is unknown",
        ),
        (
            Machine(roles=[type("Needs", (Role,), {"needs": ("sql",)})()]),
            "machine 'new' of layout 'Shop': its role Needs needs 'sql', which no machine of the"
            " layout offers; offered is 'http' (by 'web')",
        ),
    ],
)
def test_rules_for_who_joins_are_those_for_who_is_declared(machine: Machine, message: str) -> None:
    class Offers(Role):
        offers = "http"

    lan = Network("10.0.0.0/24")
    link = lan.at(dns_name="www.shop.example")
    plan = plan_of(lan=lan, web=Machine(hostname="front", links={"eth0": link}, roles=[Offers()]))
    with pytest.raises(LayoutError) as caught:
        extend_plan(plan, "new", machine)
    assert str(caught.value).startswith(f"{message}; declared at {__file__}:")


def test_machine_that_joins_may_not_be_called_as_a_link_of_another() -> None:
    lan = Network("10.0.0.0/24")
    plan = plan_of(lan=lan, web=Machine(links={"eth0": lan.at(dns_name="WWW")}))
    with pytest.raises(LayoutError, match="host name 'www' is the dns_name of interface 'eth0'"):
        extend_plan(plan, "www", Machine())
    # it may when that has left
    extended, _ = extend_plan(reduce_plan(plan, "web"), "www", Machine())
    assert list(extended.machines) == ["www"]


def test_link_of_a_machine_that_joins_may_not_be_called_as_a_machine() -> None:
    lan = Network("10.0.0.0/24")
    plan = plan_of(lan=lan, web=Machine(links={"eth0": lan.at()}))
    with pytest.raises(
        LayoutError, match="dns_name 'web' of interface 'eth0' is the name of machine 'web'"
    ):
        extend_plan(plan, "new", Machine(links={"eth0": lan.at(dns_name="web")}))


def test_name_that_is_taken_is_refused_with_another() -> None:
    plan = plan_of(web=Machine())
    with pytest.raises(
        LayoutError,
        match=r"machine 'web' of layout 'Shop': the layout has a machine of this name already;"
        r' declared at .*; try: name="web-2"$',
    ):
        extend_plan(plan, "web", Machine())


def test_mac_and_addresses_of_those_that_are_there_are_taken() -> None:
    lan = Network("10.0.0.0/24", "fd00::/64")
    plan = plan_of(
        lan=lan,
        web=Machine(
            links={
                "eth0": lan.at(
                    ".1", "::1", mac="02:00:00:00:00:01", secondary_addresses=["10.0.0.2"]
                )
            }
        ),
    )
    for link, message in (
        (lan.at(mac="02:00:00:00:00:01"), "mac '02:00:00:00:00:01' of interface 'eth0' is taken"),
        (lan.at(".1"), "address '10.0.0.1' of interface 'eth0' is taken by machine 'web'"),
        (lan.at("::1"), "address 'fd00::1' of interface 'eth0' is taken by machine 'web'"),
        (lan.at(".2"), "address '10.0.0.2' of interface 'eth0' is taken by machine 'web'"),
    ):
        with pytest.raises(LayoutError, match=message):
            extend_plan(plan, "new", Machine(links={"eth0": link}))
    _, joined = extend_plan(plan, "new", Machine(links={"eth0": lan.at()}))
    assert [str(one) for one in joined.links[0].addresses] == ["10.0.0.3/24", "fd00::2/64"]


def test_address_of_something_outside_stays_its_own_when_machines_join() -> None:
    lan = Network(v4=V4Config(network="10.0.0.0/24", external_addresses=[".1", ".2"]))
    plan = plan_of(lan=lan)
    _, joined = extend_plan(plan, "new", Machine(links={"eth0": lan.at("auto", gateway=".1")}))
    assert str(joined.links[0].address) == "10.0.0.3/24"
    assert joined.links[0].gateway == ip_address("10.0.0.1")


def test_client_that_joins_waits_for_the_server_that_is_there() -> None:
    lan = Network(v4=V4Config(network="10.0.0.0/24", dhcp_ranges=[(".100", ".199")]))
    client = Machine(links={"eth0": lan.at(dhcp=True)})
    server = Machine(links={"eth0": lan.at(".1")}, roles=[DhcpServer()])
    plan = plan_of(lan=lan, server=server)
    _, joined = extend_plan(plan, "client", client)
    assert joined.after == ("server",)
    with pytest.raises(LayoutError, match="nobody serves it in network 'lan'"):
        extend_plan(reduce_plan(plan, "server"), "client", client)


def test_machine_that_joins_waits_for_what_it_needs_and_offers_what_it_has() -> None:
    class Store(Role):
        offers = ("sql",)

    class Site(Role):
        needs = ("sql",)

    plan = plan_of(db=Machine(roles=[Store()]))
    plan, site = extend_plan(plan, "site", Machine(roles=[Site()]))
    assert site.after == ("db",)
    plan, _ = extend_plan(reduce_plan(plan, "db"), "db2", Machine(roles=[Store()]))
    _, second = extend_plan(plan, "second", Machine(roles=[Site()]))
    assert second.after == ("db2",)


def test_nobody_joins_a_tunnel_that_runs() -> None:
    lan, tunnel = Network("10.0.0.0/24"), Network("10.9.0.0/24", kind="vxlan")
    links = {"eth0": lan.at(), "t0": tunnel.at(over="eth0")}
    plan = plan_of(lan=lan, tunnel=tunnel, a=Machine(links=links), b=Machine(links=links))
    with pytest.raises(
        LayoutError,
        match=r"machine 'c' of layout 'Shop': interface 't0': nobody can join the tunnel 'tunnel'"
        r" of a live layout; declared at .*; try: declare the machine in the layout$",
    ):
        extend_plan(plan, "c", Machine(links=links))


def test_wire_takes_as_many_as_have_left_it() -> None:
    wire = Network("10.0.0.0/29", kind="point-to-point")
    end = Machine(links={"eth0": wire.at()})
    plan = plan_of(wire=wire, a=end, b=Machine(links={"eth0": wire.at()}))
    with pytest.raises(LayoutError, match=r"has its two ends already, at a\.eth0 and b\.eth0"):
        extend_plan(plan, "c", Machine(links={"eth0": wire.at()}))
    extended, joined = extend_plan(reduce_plan(plan, "a"), "c", Machine(links={"eth0": wire.at()}))
    assert list(extended.machines) == ["b", "c"]
    assert str(joined.links[0].address) == "10.0.0.1/29"


def test_ports_of_those_that_join_are_told_apart_from_those_that_are_there() -> None:
    lan = Network("10.0.0.0/24")
    plan = plan_of(lan=lan, a=Machine(links={"b-c": lan.at()}))
    _, joined = extend_plan(plan, "a-b", Machine(links={"c": lan.at()}))
    assert plan.machines["a"].links[0].port == "a-b-c"
    assert joined.links[0].port != "a-b-c"
    assert len(joined.links[0].port) <= 15


def test_forward_of_a_machine_that_joins_leads_to_one_that_is_there() -> None:
    lan, wan = Network("10.0.0.0/24"), Network("192.0.2.0/24")
    plan = plan_of(lan=lan, wan=wan, web=Machine(links={"eth0": lan.at(".80")}))
    links = {"wan0": wan.at(), "lan0": lan.at()}
    _, gw = extend_plan(plan, "gw", Machine(links=links, forwards=Forward("wan0", 80, to="web")))
    assert [str(one.to) for one in gw.forwards] == ["10.0.0.80"]


def test_images_of_machines_that_join_are_listed_beside_the_others() -> None:
    debian, trixie = Image.debian("bookworm"), Image.debian("trixie")
    plan = with_image(a=Machine(debian))
    plan, _ = extend_plan(plan, "b", Machine(debian))
    assert [one.suite for one in plan.images.values()] == ["bookworm"]
    plan, joined = extend_plan(plan, "c", Machine(trixie))
    assert [one.suite for one in plan.images.values()] == ["bookworm", "trixie"]
    assert joined.image is not None
    assert set(plan.images) == {debian.key, joined.image.key}


# stations


def test_station_has_what_its_network_says_and_only_a_gateway_that_is_there() -> None:
    lan = Network(
        v4=V4Config(
            network="10.0.0.0/24", gateway=".1", dns_servers=[".53"], domains=["shop.example"]
        ),
        v6=V6Config(network="fd00::/64", gateway="::1"),
        mtu=1400,
    )
    plan = plan_of(lan=lan, gw=Machine(links={"eth0": lan.at(".1", v6=V6Config(gateway=False))}))
    extended, link = plan_station(plan, "lan")
    assert (link.interface, link.network, link.bridge, link.mtu) == ("eth0", "lan", "br-lan", 1400)
    assert [str(one) for one in link.addresses] == ["10.0.0.254/24", "fd00::ffff:ffff:ffff:ffff/64"]
    assert (link.v4 and link.v4.gateway, link.v6 and link.v6.gateway) == (
        ip_address("10.0.0.1"),
        None,
    )
    assert link.v4 is not None
    assert link.v4.dns_servers == (ip_address("10.0.0.53"),)
    assert link.v4.domains == ("shop.example",)
    assert link.port == "station-lan"
    assert extended.stations == {"lan": link}
    assert plan.stations == {}
    assert plan_station(extended, "lan") == (extended, link)


def test_station_keeps_its_addresses_from_those_that_join() -> None:
    lan = Network("10.0.0.0/29")
    plan, link = plan_station(plan_of(lan=lan), "lan")
    assert str(link.address) == "10.0.0.6/29"
    with pytest.raises(LayoutError, match=r"address '10\.0\.0\.6' .* is taken by machine 'station"):
        extend_plan(plan, "a", Machine(links={"eth0": lan.at(".6")}))
    with pytest.raises(LayoutError, match=f"mac '{link.mac}' .* is taken"):
        extend_plan(plan, "a", Machine(links={"eth0": lan.at(mac=link.mac)}))


def test_station_passes_by_what_a_server_gives_and_what_is_outside() -> None:
    lan = Network(
        v4=V4Config(
            network="10.0.0.0/24",
            dhcp_ranges=[(".200", ".253")],
            external_addresses=[".254", ".199"],
        )
    )
    _, link = plan_station(plan_of(lan=lan, a=Machine(links={"eth0": lan.at(".198")})), "lan")
    assert str(link.address) == "10.0.0.197/24"


def test_station_on_a_full_network_or_none_is_refused() -> None:
    lan = Network("10.0.0.0/30")
    machines = {name: Machine(links={"eth0": lan.at()}) for name in "ab"}
    plan = plan_of(lan=lan, **machines)
    with pytest.raises(LookupError) as caught:
        plan_station(plan, "lan")
    assert str(caught.value) == (
        "network 'lan' of layout 'Shop': no address is left in 10.0.0.0/30 for a station;"
        " try: a larger network"
    )
    with pytest.raises(LookupError) as caught:
        plan_station(plan, "dmz")
    assert str(caught.value) == "layout 'Shop' has no network 'dmz'; its networks are: lan"
    with pytest.raises(LookupError, match=r"its networks are: none$"):
        plan_station(plan_of(), "lan")


def test_station_on_a_network_of_frames_has_no_address() -> None:
    frames = Network()
    _, link = plan_station(plan_of(frames=frames), "frames")
    assert (link.addresses, link.v4, link.v6) == ((), None, None)


def test_address_that_a_link_says_to_be_outside_stays_outside_when_machines_join() -> None:
    lan = Network("10.0.0.0/24")
    says = V4Config(address=".1", external_addresses=[".2", ".254"])
    plan = plan_of(lan=lan, gw=Machine(links={"eth0": lan.at(v4=says)}))
    _, joined = extend_plan(plan, "new", Machine(links={"eth0": lan.at("auto")}))
    assert str(joined.links[0].address) == "10.0.0.3/24"
    with pytest.raises(LayoutError, match=r"'10\.0\.0\.2' .* is taken by outside of the layout"):
        extend_plan(plan, "new", Machine(links={"eth0": lan.at(".2")}))
    _, station = plan_station(plan, "lan")
    assert str(station.address) == "10.0.0.253/24"
