"""Networks that exist, and the hosts that are on them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from pytest_carthage import Layout, LayoutError, Machine, Network, Ssh
from pytest_carthage.live.faults.schedule import KINDS, schedule
from pytest_carthage.live.packets.capture import link_place, places
from pytest_carthage.live.packets.packets import Owners
from pytest_carthage.live.packets.recording import recordable
from pytest_carthage.model.image import Image
from pytest_carthage.placing.specs import network_specs
from pytest_carthage.planning import extend_plan, make_plan, plan_control, plan_station
from pytest_carthage.planning.fingerprint import differences, fingerprint
from pytest_carthage.planning.plan import Plan
from pytest_carthage.planning.sketch import recall, sketch
from pytest_carthage.planning.traits import Traits
from pytest_carthage.report import drawing
from pytest_carthage.roles import DnsServer, Router

TARGETS = {
    "here": Traits(root="host", init=False, outside=False, is_default=True),
    "image": Traits(root="image", init=True, outside=False, needs="disk", is_default=True),
    "ssh": Traits(root="existing", init=True, outside=True, settings=Ssh, needs_settings=True),
}
WHERE = "rack 4, VLAN 12"


class Shop(Layout):
    """The database is in a rack, at the addresses that the office has, too."""

    lan = Network("10.0.0.0/24", "fd00::/64")
    rack = Network("10.0.0.0/24", "fd00::/64", external=WHERE)
    gw = Machine(links={"lan0": lan.at(".1")}, roles=[Router()])
    web = Machine(links={"eth0": lan.at(".10", gateway=".1")})
    db = Machine(on=Ssh("db1.lab"), links={"eth0": rack.at(".10", "::10")})


@pytest.fixture(scope="module")
def plan() -> Plan:
    return make_plan(Shop, targets=TARGETS)


def test_external_network_is_nothing_of_the_fabrics(plan: Plan) -> None:
    rack = plan.networks["rack"]
    (link,) = plan.machines["db"].links
    assert (rack.bridge, rack.kind, rack.external) == ("", "external", WHERE)
    assert (link.bridge, link.port, link.mac, link.kind) == ("", "", "", "external")
    assert [str(address) for address in link.addresses] == ["10.0.0.10/24", "fd00::10/64"]
    assert [spec["bridge"] for spec in network_specs(plan)] == [plan.networks["lan"].bridge]
    assert recordable(plan) == ["lan"]


def test_addresses_of_an_external_network_are_in_nobodys_hosts_file(plan: Plan) -> None:
    assert plan.hosts["10.0.0.10"] == ("web",)
    assert "fd00::10" not in plan.hosts
    assert not plan.has_twins
    for networks in (["lan"], ["rack"], []):
        assert "db" not in plan.hosts_file(networks)


def test_packets_with_an_address_that_an_external_host_has_are_not_of_it(plan: Plan) -> None:
    owners = Owners(plan)
    assert set(owners.addresses[plan.machines["web"].links[0].addresses[0].ip]) == {("web", "lan")}
    assert "" not in owners.macs


def test_name_server_does_not_know_what_nobody_reaches() -> None:
    dns = Network("10.0.1.0/24")
    named = Machine(links={"eth0": dns.at(".1")}, roles=[DnsServer()])

    class Named(Shop):
        names = dns
        ns = named

    from pytest_carthage.roles.dhcp_dns import _host_records

    records = "\n".join(_host_records(make_plan(Named, targets=TARGETS), DnsServer()))
    assert "web" in records
    assert "db" not in records


@pytest.mark.parametrize(
    ("ask", "what"),
    [
        (lambda plan: plan_station(plan, "rack"), "nothing of the layout is on it"),
        (lambda plan: places(plan, "rack"), "what is sent there is seen by no one here"),
        (
            lambda plan: link_place(plan.machines["db"].links[0], "db"),
            "on network 'rack', which is external",
        ),
    ],
)
def test_nobody_gets_on_an_external_network(
    plan: Plan, ask: Callable[[Plan], Any], what: str
) -> None:
    with pytest.raises(LookupError, match=what):
        ask(plan)


def test_ansibles_place_and_storms_are_not_on_external_networks(plan: Plan) -> None:
    no_power = replace(TARGETS["ssh"], lacks=frozenset({"power", "freeze"}))
    lacking = make_plan(Shop, targets={**TARGETS, "ssh": no_power})
    control = plan_control(plan)
    assert [link.network for link in control.links] == ["lan"]
    assert control.left_out == {}
    kinds = [*KINDS, "crash"]
    storm = schedule(lacking, for_s=60, per_s=10, seed=1, kinds=kinds)
    assert {fault.kind for fault in storm.faults} == set(kinds)
    assert "web" in str(storm)
    assert "db" not in str(storm)


def test_external_network_is_drawn_with_where_it_is(plan: Plan) -> None:
    text = drawing.text(plan)
    assert f"rack  10.0.0.0/24, fd00::/64, external: {WHERE}" in text
    assert "db  eth0  10.0.0.10, fd00::10" in text
    assert WHERE in drawing.mermaid(plan)
    assert WHERE in drawing.svg(plan)
    record = json.loads(json.dumps(sketch(plan)))
    assert record["networks"]["rack"]["external"] == WHERE
    assert record["machines"]["db"]["links"][0]["mac"] is None
    assert drawing.text(recall(record)) == text


def test_where_a_network_is_belongs_to_its_fingerprint() -> None:
    prints = []
    for where in ("rack 4", "rack 5"):
        rack = Network("10.0.0.0/24", external=where)
        db = Machine(on=Ssh("db1.lab"), links={"eth0": rack.at(".10")})
        layout = Layout.of("Shop", {"rack": rack, "db": db})
        prints.append(fingerprint(make_plan(layout, targets=TARGETS)))
    assert differences(*prints) == [
        "network 'rack': external: 'rack 4' then, 'rack 5' now",
    ]


def test_host_can_be_added_and_two_cannot_have_one_address(plan: Plan) -> None:
    other = Machine(on=Ssh("db2.lab"), links={"eth0": Shop.rack.at(".11")})
    extended, planned = extend_plan(plan, "db2", other)
    assert planned.links[0].mac == ""
    assert extended.networks == plan.networks
    same = Machine(on=Ssh("db3.lab"), links={"eth0": Shop.rack.at(".10")})
    with pytest.raises(LayoutError, match=r"'10\.0\.0\.10' of .* is taken by machine 'db' in"):
        extend_plan(plan, "db3", same)


def test_loopback_address_may_be_that_of_an_external_host() -> None:
    class Right(Shop):
        lan = Network("10.9.0.0/24")
        gw = Machine(loopback="10.0.0.10", links={"lan0": lan.at(".1")})
        web = Machine(links={"eth0": lan.at(".10")})

    assert make_plan(Right, targets=TARGETS).machines["gw"].loopback


@pytest.mark.parametrize(
    ("network", "what", "remedy"),
    [
        ('Network(external="")', "external='' is no text of one line that says where it is", ""),
        ("Network(external=True)", "external=True is no text of one line", "rack 4, VLAN 12"),
        (r'Network(external="a\nb")', r"external='a\nb' is no text of one line", ""),
        (
            'Network(external="x", kind="vxlan")',
            "kind='vxlan' beside external=: a network that exists is as it is",
            "leave one of them out",
        ),
        ('Network(external="x", mtu=9000)', "mtu=9000 beside external=", ""),
        ('Network(external="x", vlan_id=7)', "vlan_id=7 beside external=", ""),
        ('Network(external="x", ipv6=False)', "ipv6=False beside external=", ""),
        (
            'Network(external="x", v4=V4Config(network="10.0.0.0/24", gateway=".1"))',
            "v4=V4Config(",
            "",
        ),
        ('Network(kind="external")', "kind 'external' is unknown", "one of bridged, "),
    ],
)
def test_network_that_exists_is_only_told_of(
    refused: Callable[[str], str], network: str, what: str, remedy: str
) -> None:
    text = refused(f"class Shop(Layout):\n    rack = {network}")
    assert text.startswith("network 'rack' of layout 'Shop': ")
    assert what in text
    assert "declared at conftest.py:2" in text
    assert remedy in text


@pytest.mark.parametrize(
    ("link", "what"),
    [
        ('rack.at(".1", gateway=".254")', "gateway='.254' on Network("),
        ("rack.at()", "an address is to be chosen on Network("),
        ('rack.at("auto")', "an address is to be chosen on Network("),
        ('rack.at(".1", mac="02:00:00:00:00:01")', "mac='02:00:00:00:00:01' on Network("),
        ('rack.at(".1", dhcp=True)', "dhcp=True on Network("),
        ('rack.at(".1", mtu=1400)', "mtu=1400 on Network("),
        ('rack.at(".1", masquerade=True)', "masquerade=True on Network("),
        ('rack.at(".1", dns_name="db.example")', "dns_name='db.example' on Network("),
        ('rack.at(".1", required=False)', "required=False on Network("),
        ('rack.at(None, expects=".1")', "expects='...' on Network("),
        ('rack.at(".1", kind="macvlan")', "kind='macvlan' on Network("),
        ('rack.at(".1", over="eth1")', "over=('eth1',) on Network("),
    ],
)
def test_link_to_a_network_that_exists_says_addresses_alone(
    refused: Callable[[str], str], link: str, what: str
) -> None:
    text = refused(
        f"""
        class Shop(Layout):
            rack = Network("10.0.0.0/24", external="rack 4")
            db = Machine(on=Ssh("db1.lab"), links={{"eth0": {link}}})
        """
    )
    assert what in text
    assert "(interface 'eth0'); declared at conftest.py:3; try: " in text


def test_link_without_addresses_and_with_several_is_fine() -> None:
    rack = Network("10.0.0.0/24", external="rack 4")
    links = {
        "eth0": rack.at(None),
        "eth1": rack.at(".3", secondary_addresses=[".4"]),
        "eth2": Network(external="no addresses").at(),
    }
    members = {"rack": rack, "none": links["eth2"].network}
    layout = Layout.of("Lab", {**members, "db": Machine(on=Ssh("db1"), links=links)})
    planned = make_plan(layout, targets=TARGETS).machines["db"].links
    assert [[str(one.ip) for one in link.addresses] for link in planned] == [
        [],
        ["10.0.0.3", "10.0.0.4"],
        [],
    ]


def refusal_of(**members: Any) -> str:
    with pytest.raises(LayoutError) as caught:
        make_plan(Layout.of("Lab", members), targets=TARGETS)
    return str(caught.value)


def test_machine_that_is_made_cannot_be_on_an_external_network() -> None:
    rack = Network("10.0.0.0/24", external="rack 4")
    for image, target in ((None, "here"), (Image.debian("bookworm"), "image")):
        text = refusal_of(rack=rack, web=Machine(image, links={"eth0": rack.at(".1")}))
        assert (
            "machine 'web' of layout 'Lab': interface 'eth0' is on network 'rack', which is"
            f" external (rack 4): machines of target {target!r} are made here"
        ) in text
        assert 'try: on=Ssh("db1.lab")' in text


def test_host_that_exists_cannot_be_on_a_network_of_the_layout() -> None:
    lan = Network("10.0.0.0/24")
    text = refusal_of(lan=lan, db=Machine(on=Ssh("db1.lab"), links={"eth0": lan.at(".1")}))
    assert "target 'ssh' cannot put machines on networks of a layout, and the machine has" in text
    assert 'a link to a Network(..., external="where it is")' in text


@pytest.mark.parametrize(
    "argument",
    [
        {"forward": True},
        {"masquerade": "eth0"},
        {"routes": {"10.9.0.0/16": ".2"}},
        {"loopback": "10.255.0.1"},
    ],
)
def test_host_that_exists_has_no_network_settings_of_the_layouts(argument: dict[str, Any]) -> None:
    rack = Network("10.0.0.0/24", external="rack 4")
    other = Machine(on=Ssh("db2.lab"), links={"eth0": rack.at(".2")})
    machine = Machine(on=Ssh("db1.lab"), links={"eth0": rack.at(".1")}, **argument)
    (name,) = argument
    text = refusal_of(rack=rack, other=other, db=machine)
    assert f"cannot put machines on networks of a layout, and the machine has {name}=" in text


def test_router_cannot_forward_to_a_host_that_nobody_reaches() -> None:
    from pytest_carthage import Forward

    lan, rack = Network("10.0.0.0/24"), Network("192.0.2.0/24", external="rack 4")
    text = refusal_of(
        lan=lan,
        rack=rack,
        db=Machine(on=Ssh("db1.lab"), links={"eth0": rack.at(".1")}),
        gw=Machine(links={"eth0": lan.at(".1")}, forwards=Forward("eth0", 5432, to="db")),
    )
    assert "leads to 'db', which is no other machine of the layout with an address" in text


def test_network_that_a_subclass_makes_external_needs_other_links(
    refused: Callable[[str], str],
) -> None:
    text = refused(
        """
        class Shop(Layout):
            lan = Network("10.0.0.0/24")
            gw = Machine(links={"eth0": lan.at(".1")})
            web = Machine(links={"eth0": lan.at(".2", gateway=".1")})

        class Rack(Shop):
            lan = Network("10.0.0.0/24", external="rack 4")
        """
    )
    assert (
        "machine 'web' of layout 'Rack': gateway='.1' on network 'lan', which is external" in text
    )


def test_machines_of_all_kinds_are_in_one_layout() -> None:
    from pytest_carthage import Vm

    kinds = {
        **TARGETS,
        "libvirt": Traits(root="image", init=True, outside=False, needs="disk", settings=Vm),
        "podman": Traits(root="image", init=True, outside=False, needs="folders"),
    }
    debian = Image.debian("bookworm")

    class Mixed(Shop):
        vm = Machine(debian, on=Vm(), links={"eth0": Shop.lan.at(".20")})
        pod = Machine(debian, on="podman", links={"eth0": Shop.lan.at(".21")})

    plan = make_plan(Mixed, targets=kinds)
    assert {name: one.target for name, one in plan.machines.items()} == {
        "gw": "here",
        "web": "here",
        "db": "ssh",
        "vm": "libvirt",
        "pod": "podman",
    }
