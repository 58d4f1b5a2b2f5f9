"""The address model: what links inherit, what follows from it, and each way to get it wrong."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_interface, ip_network
from typing import Any

import pytest

from pytest_carthage import (
    Forward,
    Layout,
    LinkContext,
    Machine,
    Network,
    NetworkConfig,
    Role,
    V4Config,
    V6Config,
    trunk,
)
from pytest_carthage.planning import extend_plan, make_plan
from pytest_carthage.planning.plan import Plan, PlannedLink

Refused = Callable[[str], str]


class Server(Role):
    """Stands for whatever gives addresses."""

    serves_dhcp = True


def plan_of(**members: object) -> Plan:
    return make_plan(Layout.of("Shop", members))


def link_of(plan: Plan, machine: str, interface: str = "eth0") -> PlannedLink:
    return next(link for link in plan.machines[machine].links if link.interface == interface)


def host(network: Network, *address: Any, roles: Any = (), **options: Any) -> Machine:
    return Machine(links={"eth0": network.at(*address, **options)}, roles=roles)


# what is inherited


def test_link_has_what_its_network_says_and_its_own_goes_first() -> None:
    lan = Network(
        v4=V4Config(
            network="10.0.0.0/24",
            gateway=".1",
            dns_servers=[".53", "192.0.2.53"],
            domains=["prod.example"],
            metric=50,
        )
    )
    plan = plan_of(
        lan=lan,
        gw=host(lan, ".1"),
        web=host(lan, ".2"),
        db=host(lan, ".3", v4=V4Config(domains=["db.example"]), metric=7, gateway=False),
    )
    web, db = link_of(plan, "web").v4, link_of(plan, "db").v4
    assert web is not None
    assert db is not None
    assert (web.gateway, web.metric, web.domains) == (
        IPv4Address("10.0.0.1"),
        50,
        ("prod.example",),
    )
    assert web.dns_servers == (IPv4Address("10.0.0.53"), IPv4Address("192.0.2.53"))
    assert (db.gateway, db.metric, db.domains) == (None, 7, ("db.example",))
    assert db.dns_servers == web.dns_servers


def test_gateway_that_a_network_names_is_dropped_on_the_machine_that_is_it() -> None:
    lan = Network(v4=V4Config(network="10.0.0.0/24", gateway=".1"))
    plan = plan_of(lan=lan, gw=host(lan, ".1"), web=host(lan, ".2"))
    assert link_of(plan, "gw").gateway is None
    assert link_of(plan, "web").gateway == IPv4Address("10.0.0.1")


def test_masquerade_is_inherited_and_makes_a_router() -> None:
    wan = Network(v4=V4Config(network="192.0.2.0/24", masquerade=True))
    lan = Network("10.0.0.0/24")
    gw = Machine(links={"eth0": wan.at(".1"), "lan0": lan.at(".1")})
    members = {"guest": host(wan, ".3"), "other": host(wan, ".2", masquerade=False)}
    plan = plan_of(wan=wan, lan=lan, gw=gw, **members)
    assert not plan.machines["guest"].forward  # what has one link leads nowhere
    assert link_of(plan, "gw").masquerade
    assert plan.machines["gw"].forward
    assert not link_of(plan, "other").masquerade
    assert not plan.machines["other"].forward


def test_gateway_outside_of_the_layout_is_declared_external() -> None:
    lan = Network(v4=V4Config(network="10.0.0.0/29", gateway=".1", external_addresses=[".1", ".2"]))
    plan = plan_of(lan=lan, web=host(lan), db=host(lan))
    assert link_of(plan, "web").gateway == IPv4Address("10.0.0.1")
    assert str(link_of(plan, "web").address) == "10.0.0.3/29"
    assert str(link_of(plan, "db").address) == "10.0.0.4/29"


def test_link_without_addresses_inherits_none() -> None:
    lan = Network("10.0.0.0/24", v6=V6Config(network="fd00::/64", address="auto"))
    plan = plan_of(lan=lan, tap=host(lan, None))
    assert link_of(plan, "tap").addresses == ()
    assert link_of(plan, "tap").addressings == ()


# both families


def test_network_of_both_families_gives_both() -> None:
    lan = Network("10.0.0.0/24", "fd00::/64")
    plan = plan_of(lan=lan, a=host(lan), b=host(lan, ".9", "::9"), c=host(lan, ".3"))
    assert [str(one) for one in link_of(plan, "a").addresses] == ["10.0.0.1/24", "fd00::1/64"]
    assert [str(one) for one in link_of(plan, "b").addresses] == ["10.0.0.9/24", "fd00::9/64"]
    assert [str(one) for one in link_of(plan, "c").addresses] == ["10.0.0.3/24"]
    assert str(link_of(plan, "b").address) == "10.0.0.9/24"
    assert plan.networks["lan"].subnet == ip_network("10.0.0.0/24")


def test_short_arguments_go_to_the_family_that_they_are_written_in() -> None:
    lan = Network("10.0.0.0/24", "fd00::/64")
    plan = plan_of(
        lan=lan,
        gw=host(lan, ".1", "::1"),
        web=Machine(
            links={"eth0": lan.at(".2", "::2", gateway=".1", v6=V6Config(gateway="::1", metric=9))}
        ),
    )
    link = link_of(plan, "web")
    assert link.v4 is not None
    assert link.v6 is not None
    assert link.v4.gateway == IPv4Address("10.0.0.1")
    assert link.v6.gateway == IPv6Address("fd00::1")
    assert (link.v4.metric, link.v6.metric) == (None, 9)


def test_slaac_address_is_known_before_anything_exists() -> None:
    lan = Network(v6=V6Config(network="2001:db8::/64", slaac=True))
    plan = plan_of(
        lan=lan,
        ra=host(lan, "::1", slaac=False, roles=[Server()]),
        web=host(lan, mac="34:56:78:9a:bc:de"),
    )
    link = link_of(plan, "web")
    assert str(link.address) == "2001:db8::3656:78ff:fe9a:bcde/64"
    assert link.v6 is not None
    assert link.v6.slaac
    assert link.v6.configured == ()
    assert plan.machines["web"].after == ("ra",)


# DHCP


def test_link_that_asks_dhcp_waits_for_its_server_and_keeps_its_reserved_address() -> None:
    lan = Network(v4=V4Config(network="10.0.0.0/24", dhcp_ranges=[(".100", ".199")]))
    plan = plan_of(
        lan=lan,
        web=host(lan, ".7", dhcp=True),
        db=host(lan, "auto", dhcp=True),
        guest=host(lan, dhcp=True),
        srv=host(lan, ".1", roles=[Server()]),
    )
    assert plan.machines["web"].after == ("srv",)
    assert str(link_of(plan, "web").address) == "10.0.0.7/24"
    assert str(link_of(plan, "db").address) == "10.0.0.2/24"
    assert link_of(plan, "guest").address is None
    guest = link_of(plan, "guest").v4
    assert guest is not None
    assert guest.dhcp
    assert plan.networks["lan"].v4 is not None
    assert plan.networks["lan"].v4.dhcp_ranges == (
        (IPv4Address("10.0.0.100"), IPv4Address("10.0.0.199")),
    )


# pools


def test_pool_is_where_auto_takes_from_in_the_order_of_declaration() -> None:
    lan = Network(v4=V4Config(network="10.0.0.0/24", pool=(".10", ".12")))
    members = {"lan": lan, "fixed": host(lan, ".11"), "a": host(lan), "b": host(lan)}
    for _ in range(2):
        plan = plan_of(**members)
        assert str(link_of(plan, "a").address) == "10.0.0.10/24"
        assert str(link_of(plan, "b").address) == "10.0.0.12/24"
    _, added = extend_plan(plan, "later", host(Layout.of("Shop", members).networks()["lan"], ".9"))
    assert str(added.links[0].address) == "10.0.0.9/24"


@pytest.mark.parametrize(
    "pool", ["10.0.0.128/25", ip_network("10.0.0.128/25"), [(".150", ".160"), (".128", ".140")]]
)
def test_pool_may_be_a_subnet_or_several_ranges(pool: Any) -> None:
    lan = Network(v4=V4Config(network="10.0.0.0/24", pool=pool))
    assert str(link_of(plan_of(lan=lan, a=host(lan)), "a").address) == "10.0.0.128/24"


def test_secondary_and_public_addresses_are_in_the_plan() -> None:
    lan = Network("10.0.0.0/24")
    plan = plan_of(
        lan=lan,
        web=host(
            lan,
            ".2",
            secondary_addresses=[".3", (".4", "203.0.113.4")],
            public_address="203.0.113.2",
        ),
        other=host(lan),
    )
    link = link_of(plan, "web")
    assert [str(one) for one in link.addresses] == ["10.0.0.2/24", "10.0.0.3/24", "10.0.0.4/24"]
    assert link.v4 is not None
    assert link.v4.public_address == IPv4Address("203.0.113.2")
    assert link.v4.secondary_addresses[1].public == IPv4Address("203.0.113.4")
    assert link.v4.configured == link.addresses
    assert str(link_of(plan, "other").address) == "10.0.0.1/24"
    assert plan.hosts["10.0.0.3"] == ("web",)


# functions


def test_value_may_be_a_function_of_the_link() -> None:
    def numbered(link: LinkContext) -> str:
        assert link.subnet == ip_network("10.0.0.0/24")
        assert link.mac.count(":") == 5
        return f".{10 + int(link.machine[-1])}"

    lan = Network(
        v4=V4Config(
            network="10.0.0.0/24",
            address=numbered,
            domains=lambda link: [f"{link.layout.lower()}.example"],
        )
    )
    plan = plan_of(lan=lan, web1=host(lan), web2=host(lan), db=host(lan, ".1"))
    assert str(link_of(plan, "web1").address) == "10.0.0.11/24"
    assert str(link_of(plan, "web2").address) == "10.0.0.12/24"
    assert str(link_of(plan, "db").address) == "10.0.0.1/24"
    web = link_of(plan, "web1").v4
    assert web is not None
    assert web.domains == ("shop.example",)


def test_function_that_fails_is_told_with_its_reason(refused: Refused) -> None:
    source = """
        def numbered(link):
            return {}[link.machine]
        class Shop(Layout):
            lan = Network("10.0.0.0/24")
            web = Machine(links={"eth0": lan.at(numbered)})
    """
    assert refused(source) == (
        "machine 'web' of layout 'Shop': the function for address failed: KeyError: 'web'"
        " (at conftest.py:2); declared at conftest.py:5;"
        " try: a function of a LinkContext that gives the address"
    )


# kinds of links


def test_trunk_carries_networks_by_their_numbers() -> None:
    lan, dmz = Network("10.0.0.0/24", vlan_id=10), Network("10.1.0.0/24", vlan_id=4094)
    plan = plan_of(
        lan=lan,
        dmz=dmz,
        gw=Machine(
            links={
                "lan0": lan.at(".1", over="eth0"),
                "eth0": trunk(lan, dmz),
                "dmz0": dmz.at(".1", over="eth0"),
            }
        ),
        web=host(lan),
    )
    links = plan.machines["gw"].links
    assert [link.interface for link in links] == ["eth0", "lan0", "dmz0"]
    assert [(vlan.vlan_id, vlan.network) for vlan in links[0].vlans] == [(10, "lan"), (4094, "dmz")]
    assert links[1].kind == "vlan"
    assert (links[1].vlan_id, links[1].over) == (10, ("eth0",))
    ports = [vlan.port for vlan in links[0].vlans] + [link.port for link in links]
    assert len(set(ports)) == len(ports)


def test_tunnel_runs_between_the_addresses_of_what_it_stands_on() -> None:
    wan = Network("192.0.2.0/24")
    inner = Network("10.9.0.0/24", kind="vxlan")
    ends = {name: Machine(links={"vx0": inner.at(over="eth0"), "eth0": wan.at()}) for name in "abc"}
    plan = plan_of(wan=wan, inner=inner, **ends)
    link = link_of(plan, "b", "vx0")
    assert link.kind == "vxlan"
    assert link.vni == plan.networks["inner"].vni
    assert link.mtu == 1450
    assert link.underlay is not None
    assert link.underlay.local == IPv4Address("192.0.2.2")
    assert [str(one) for one in link.underlay.remotes] == ["192.0.2.1", "192.0.2.3"]


def test_bond_and_macvlan_are_kinds_of_one_link() -> None:
    lan = Network("10.0.0.0/24")
    plan = plan_of(
        lan=lan,
        db=Machine(links={"bond0": lan.at(".1", bond=("eth0", "eth1"))}),
        web=host(lan, kind="macvlan"),
    )
    bond = link_of(plan, "db", "bond0")
    assert bond.kind == "bond"
    assert [member for member, _ in bond.members] == ["eth0", "eth1"]
    assert link_of(plan, "web").kind == "macvlan"


def test_other_ends_are_who_is_on_the_same_network() -> None:
    wire = Network("10.0.0.0/31", kind="point-to-point")
    plan = plan_of(wire=wire, a=host(wire), b=host(wire))
    assert plan.other_ends("a", "eth0") == (("b", "eth0"),)
    assert str(link_of(plan, "a").address) == "10.0.0.0/31"
    with pytest.raises(KeyError):
        plan.other_ends("a", "eth9")


def test_network_config_is_shared_and_changed() -> None:
    lan, wan = Network("10.0.0.0/24"), Network("192.0.2.0/24")
    both = NetworkConfig({"eth0": lan.at()}, wan0=wan.at())
    plan = plan_of(
        lan=lan,
        wan=wan,
        a=Machine(links=both),
        b=Machine(links=both | {"wan0": wan.at(".99")}),
    )
    assert str(link_of(plan, "a", "wan0").address) == "192.0.2.1/24"
    assert str(link_of(plan, "b", "wan0").address) == "192.0.2.99/24"
    assert str(link_of(plan, "b", "eth0").address) == "10.0.0.2/24"
    assert list(both) == ["eth0", "wan0"]


def test_link_tells_whether_it_is_required_and_up_and_how_it_is_called() -> None:
    lan = Network("10.0.0.0/24")
    plan = plan_of(
        lan=lan, web=host(lan, required=False, admin_up=False, dns_name="www.shop.example")
    )
    link = link_of(plan, "web")
    assert (link.required, link.admin_up, link.dns_name) == (False, False, "www.shop.example")
    assert plan.hosts["10.0.0.1"] == ("web", "www.shop.example")


def test_port_forward_leads_to_a_machine_by_member_name_or_address() -> None:
    lan, wan = Network("10.0.0.0/24"), Network("192.0.2.0/24")
    web = Machine(links={"eth0": lan.at(".20"), "eth1": wan.at(".20")})
    plan = plan_of(
        wan=wan,
        lan=lan,
        web=web,
        db=host(lan, ".30"),
        gw=Machine(
            links={"lan0": lan.at(".1"), "wan0": wan.at(".1")},
            forwards=[
                Forward("wan0", 80, to=web),
                Forward("wan0", 5432, to="db", to_port=5433),
                Forward("wan0", 53, to="10.0.0.40", protocol="udp"),
            ],
        ),
    )
    gw = plan.machines["gw"]
    assert gw.forward
    assert [(one.port, str(one.to), one.to_port, one.protocol) for one in gw.forwards] == [
        (80, "10.0.0.20", 80, "tcp"),
        (5432, "10.0.0.30", 5433, "tcp"),
        (53, "10.0.0.40", 53, "udp"),
    ]


def test_default_routes_with_different_metrics_are_a_choice() -> None:
    one, two = Network("10.1.0.0/24"), Network("10.2.0.0/24")
    plan = plan_of(
        one=one,
        two=two,
        a=host(one, ".1"),
        b=host(two, ".1"),
        web=Machine(
            links={
                "eth0": one.at(".2", gateway=".1", metric=100),
                "eth1": two.at(".2", gateway=".1", metric=200),
            }
        ),
    )
    assert [link.gateway for link in plan.machines["web"].links] == [
        ip_address("10.1.0.1"),
        ip_address("10.2.0.1"),
    ]


def test_link_may_have_another_subnet_than_its_network() -> None:
    lan = Network("10.0.0.0/24")
    plan = plan_of(lan=lan, odd=host(lan, v4=V4Config(network="172.16.0.0/24", address=".5")))
    assert link_of(plan, "odd").address == ip_interface("172.16.0.5/24")


# mistakes

_TWO = """
    class Shop(Layout):
        lan = {network}
        gw = Machine(links={{"eth0": lan.at({gw})}})
        web = Machine(links={{"eth0": lan.at({web})}})
"""


@pytest.mark.parametrize(
    ("network", "message"),
    [
        pytest.param(
            'Network("fd00::")',
            "subnet 'fd00::' has no prefix length; {at}; try: Network(\"fd00::/64\")",
            id="IPv6 without prefix",
        ),
        pytest.param(
            'Network("10.0.0.7")',
            "subnet '10.0.0.7' has no prefix length; {at}; try: Network(\"10.0.0.0/24\")",
            id="IPv4 without prefix",
        ),
        pytest.param(
            'Network("10.0.0.0/24", "10.1.0.0/24")',
            "10.1.0.0/24 is a second subnet of IPv4; {at};"
            " try: a network for each, or secondary_addresses= on the links",
            id="two subnets of a family",
        ),
        pytest.param(
            'Network("fd00::/64", mtu=1279)',
            "mtu 1279 is not a number from 1280 to 65535 (IPv6 needs 1280); {at};"
            " try: mtu=1500, or leave it out",
            id="mtu of IPv6",
        ),
        pytest.param(
            'Network("10.0.0.0/24", mtu=575)',
            "mtu 575 is not a number from 576 to 65535; {at}; try: mtu=1500, or leave it out",
            id="mtu of IPv4",
        ),
        pytest.param(
            'Network("10.0.0.0/24", vlan_id=4095)',
            "vlan_id 4095 is not a number from 1 to 4094; {at}; try: vlan_id=10",
            id="beyond the last vlan",
        ),
        pytest.param(
            'Network("10.0.0.0/24", vlan_id=0)',
            "vlan_id 0 is not a number from 1 to 4094; {at}; try: vlan_id=10",
            id="no vlan",
        ),
        pytest.param(
            'Network("10.0.0.0/24", kind="token-ring")',
            "kind 'token-ring' is unknown; {at}; try: one of bridged, point-to-point, vxlan, gre",
            id="kind",
        ),
        pytest.param(
            'Network(v4=V4Config(network="fd00::/64"))',
            "subnet fd00::/64 is of IPv6; {at}; try: V6Config(network='fd00::/64')",
            id="family",
        ),
        pytest.param(
            "Network(v4=V4Config(gateway='.1'))",
            'v4 has no network; {at}; try: V4Config(network="10.0.0.0/24")',
            id="no network",
        ),
        pytest.param(
            'Network(v4="10.0.0.0/24")',
            "v4='10.0.0.0/24' is no V4Config; {at}; try: v4=V4Config(...)",
            id="no config",
        ),
        pytest.param(
            'Network(v4=V4Config(network="10.0.0.0/24", gateway="10.1.0.1"))',
            "gateway '10.1.0.1' is outside network 10.0.0.0/24; {at}; try: gateway \"10.0.0.1\"",
            id="gateway",
        ),
        pytest.param(
            'Network(v4=V4Config(network="10.0.0.0/24", dhcp_ranges=[(".20", ".10")]))',
            "dhcp_ranges from 10.0.0.20 to 10.0.0.10 is backwards; {at};"
            ' try: dhcp_ranges=[("10.0.0.10", "10.0.0.20")]',
            id="range backwards",
        ),
        pytest.param(
            'Network(v4=V4Config(network="10.0.0.0/24", dhcp_ranges=[(".10", "10.0.1.20")]))',
            "dhcp_ranges '10.0.1.20' is outside network 10.0.0.0/24; {at};"
            ' try: dhcp_ranges "10.0.0.1"',
            id="range outside",
        ),
        pytest.param(
            'Network(v4=V4Config(network="10.0.0.0/24", dhcp_ranges=[(".10", ".20")],'
            ' pool=(".20", ".30")))',
            "dhcp_ranges 10.0.0.10 to 10.0.0.20 and pool 10.0.0.20 to 10.0.0.30 overlap; {at};"
            " try: ranges that are apart",
            id="range and pool",
        ),
        pytest.param(
            'Network(v4=V4Config(network="10.0.0.0/24", pool="10.0.1.0/25"))',
            "pool 10.0.1.0/25 is outside network 10.0.0.0/24; {at}; try: a part of 10.0.0.0/24",
            id="pool outside",
        ),
        pytest.param(
            'Network(v4=V4Config(network="10.0.0.0/24", pool=7))',
            'pool=7 is no list of address pairs; {at}; try: pool=[(".100", ".199")]',
            id="pool of a wrong type",
        ),
        pytest.param(
            'Network(v4=V4Config(network="10.0.0.0/24", dns_servers="resolver"))',
            "dns_servers 'resolver' is not an IPv4 address; {at}; try: dns_servers='10.0.0.1'",
            id="dns server",
        ),
        pytest.param(
            'Network(v4=V4Config(network="10.0.0.0/24", domains=["prod example"]))',
            "domains has 'prod example', which is no domain name; {at};"
            ' try: domains=["prod.example"]',
            id="domain",
        ),
        pytest.param(
            'Network(v4=V4Config(network="10.0.0.0/24", metric=-1))',
            "metric -1 is not from 0 to 4294967295; {at}; try: metric=100",
            id="metric",
        ),
        pytest.param(
            'Network(v4=V4Config(network="10.0.0.0/24", masquerade="yes"))',
            "masquerade='yes' is neither True nor False; {at}; try: masquerade=True",
            id="masquerade",
        ),
        pytest.param(
            'Network(v6=V6Config(network="fd00::/48", slaac=True))',
            "slaac needs a prefix of 64 bits, fd00::/48 has 48 (RFC 4862); {at};"
            " try: a /64 network, or dhcp=True",
            id="slaac prefix",
        ),
        pytest.param(
            'Network("10.0.0.0/24", "fd00::/64", ipv6=False)',
            "ipv6=False beside the subnet fd00::/64; {at}; try: leave one of them out",
            id="ipv6 and none",
        ),
        pytest.param(
            'Network("10.0.0.0/24", ipv6="no")',
            "ipv6='no' is neither True nor False; {at}; try: ipv6=False",
            id="ipv6 that is neither",
        ),
    ],
)
def test_network_that_is_wrong_is_refused(refused: Refused, network: str, message: str) -> None:
    source = f"class Shop(Layout):\n    lan = {network}"
    expected = message.format(at="declared at conftest.py:2")
    assert refused(source) == f"network 'lan' of layout 'Shop': {expected}"


@pytest.mark.parametrize(
    ("network", "gw", "web", "message"),
    [
        pytest.param(
            'Network(v4=V4Config(network="10.0.0.0/24", dhcp_ranges=[(".10", ".20")]))',
            "",
            '".15"',
            "address '10.0.0.15' of interface 'eth0' lies in the DHCP range 10.0.0.10 to 10.0.0.20"
            " of network 'lan', somebody else may get it; {at};"
            " try: an address outside of the range, or dhcp=True to have it reserved",
            id="DHCP range over a static address",
        ),
        pytest.param(
            'Network("10.0.0.0/24")',
            "",
            "dhcp=True",
            "dhcp of interface 'eth0': nobody serves it in network 'lan'; {at};"
            " try: a machine there with roles=[DhcpServer()], or an address",
            id="nobody serves DHCP",
        ),
        pytest.param(
            'Network("10.0.0.0/24")',
            'mac="02:00:00:00:00:01"',
            'mac="02-00-00-00-00-01"',
            "mac '02:00:00:00:00:01' of interface 'eth0' is taken by machine 'gw' in network 'lan'"
            " (declared at conftest.py:3); {at}; try: another one, or leave it out",
            id="duplicate MAC",
        ),
        pytest.param(
            'Network("10.0.0.0/24")',
            '".1", secondary_addresses=[".2"]',
            '".2"',
            "address '10.0.0.2' of interface 'eth0' is taken by machine 'gw' in network 'lan';"
            " {at};"
            ' try: "10.0.0.3", or "auto"',
            id="secondary address taken",
        ),
        pytest.param(
            'Network("10.0.0.0/24")',
            "",
            '".2", secondary_addresses=["10.9.0.1"]',
            "secondary_addresses '10.9.0.1' of interface 'eth0' is outside network 'lan'"
            ' (10.0.0.0/24); {at}; try: secondary_addresses "10.0.0.1"',
            id="secondary address outside",
        ),
        pytest.param(
            'Network("10.0.0.0/24")',
            "",
            '".2", secondary_addresses=(".3", "203.0.113.3")',
            "secondary_addresses=('.3', '203.0.113.3') of interface 'eth0' can be two addresses or"
            " one with its public one; {at}; try: secondary_addresses=[('.3', '203.0.113.3')] for a"
            " pair, secondary_addresses=['.3', '203.0.113.3'] for two",
            id="pair or two",
        ),
        pytest.param(
            'Network("10.0.0.0/24")',
            "",
            '".2", ".3"',
            "address '.3' is a second one of IPv4 (interface 'eth0'); {at};"
            " try: secondary_addresses=['.3']",
            id="two addresses",
        ),
        pytest.param(
            'Network("10.0.0.0/24")',
            "",
            'lambda link: "10.9.0.1"',
            "address '10.9.0.1' of interface 'eth0' is outside network 'lan' (10.0.0.0/24); {at};"
            ' try: address "10.0.0.1"',
            id="function outside",
        ),
        pytest.param(
            'Network(v4=V4Config(network="10.0.0.0/24", external_addresses=[".1"]))',
            "",
            '".1"',
            "address '10.0.0.1' of interface 'eth0' is taken by outside of the layout"
            ' (external_addresses) in network \'lan\'; {at}; try: "10.0.0.2", or "auto"',
            id="external address",
        ),
        pytest.param(
            'Network("10.0.0.0/24")',
            "",
            'over="eth7"',
            "interface 'eth0' is over 'eth7', which the machine does not have; it has none; {at};"
            " try: the name of one of them",
            id="over nothing",
        ),
        pytest.param(
            'Network("10.0.0.0/24")',
            "",
            'bond=("eth0",)',
            "interface 'eth0' is in the bond 'eth0' and used elsewhere, too; {at};"
            " try: an interface of its own for each",
            id="bond of itself",
        ),
        pytest.param(
            'Network("10.0.0.0/24")',
            "",
            'kind="vxlan"',
            "kind 'vxlan' is one of networks (interface 'eth0'); {at};"
            ' try: Network(..., kind="vxlan"), and over= on its links',
            id="tunnel on a bridge",
        ),
        pytest.param(
            'Network("10.0.0.0/24", kind="gre")',
            "",
            "",
            "a link to a network of kind 'gre' has to stand on one interface (interface 'eth0');"
            ' {gw}; try: over="eth0", an interface of the machine that reaches the other ends',
            id="tunnel over nothing",
        ),
        pytest.param(
            'Network("fd00::/64")',
            "",
            "mtu=1000",
            "mtu 1000 is not a number from 1280 to 65535 (IPv6 needs 1280) (interface 'eth0');"
            " {at};"
            " try: mtu=1500, or leave it out",
            id="mtu of an inherited family",
        ),
        pytest.param(
            'Network("10.0.0.0/24", ipv6=False)',
            "",
            'v6=V6Config(network="fd00::/64", address="::1")',
            "interface 'eth0' has IPv6 on network 'lan', which has ipv6=False; {at};"
            " try: leave one of them out",
            id="ipv6 on a network without",
        ),
    ],
)
def test_link_that_is_wrong_is_refused(
    refused: Refused, network: str, gw: str, web: str, message: str
) -> None:
    expected = message.format(at="declared at conftest.py:4", gw="declared at conftest.py:3")
    who = "gw" if "{gw}" in message else "web"
    assert refused(_TWO.format(network=network, gw=gw, web=web)) == (
        f"machine '{who}' of layout 'Shop': {expected}"
    )


def test_wire_with_three_ends_is_refused(refused: Refused) -> None:
    source = """
        class Shop(Layout):
            wire = Network("10.0.0.0/29", kind="point-to-point")
            a = Machine(links={"eth0": wire.at()})
            b = Machine(links={"eth0": wire.at()})
            c = Machine(links={"eth0": wire.at()})
    """
    assert refused(source) == (
        "machine 'c' of layout 'Shop': interface 'eth0': network 'wire' of kind 'point-to-point'"
        " has its two ends already, at a.eth0 and b.eth0; declared at conftest.py:5;"
        " try: a network of its own, or a bridged one"
    )


def test_two_networks_of_one_vlan_are_refused(refused: Refused) -> None:
    source = """
        class Shop(Layout):
            lan = Network("10.0.0.0/24", vlan_id=7)
            dmz = Network("10.1.0.0/24", vlan_id=7)
    """
    assert refused(source) == (
        "network 'dmz' of layout 'Shop': vlan_id 7 is that of network 'lan';"
        " declared at conftest.py:3; try: another number"
    )


def test_overlapping_networks_joined_by_one_router_are_refused(refused: Refused) -> None:
    source = """
        class Shop(Layout):
            lan = Network("10.0.0.0/16", "fd00:1::/64")
            dmz = Network("10.0.7.0/24", "fd00:2::/64")
            gw = Machine(links={"lan0": lan.at(), "dmz0": dmz.at()})
    """
    assert refused(source) == (
        "machine 'gw' of layout 'Shop': interface 'lan0' is on network 'lan' (10.0.0.0/16) and"
        " interface 'dmz0' on network 'dmz' (10.0.7.0/24), which overlap;"
        " declared at conftest.py:4; try: networks with different addresses, or a machine between"
        " them"
    )


def test_interface_name_of_16_characters_is_refused(refused: Refused) -> None:
    source = """
        class Shop(Layout):
            lan = Network("10.0.0.0/24")
            gw = Machine(links={"bond0": lan.at(bond=("eth0", "abcdefghijklmnop"))})
    """
    assert refused(source) == (
        "machine 'gw' of layout 'Shop': interface name 'abcdefghijklmnop' has 16 bytes,"
        ' the kernel takes at most 15; declared at conftest.py:3; try: a name such as "eth0"'
    )


def test_vlan_over_a_trunk_that_does_not_carry_it_is_refused(refused: Refused) -> None:
    source = """
        class Shop(Layout):
            lan = Network("10.0.0.0/24", vlan_id=10)
            dmz = Network("10.1.0.0/24", vlan_id=20)
            gw = Machine(links={"eth0": trunk(dmz), "lan0": lan.at(over="eth0")})
    """
    assert refused(source) == (
        "machine 'gw' of layout 'Shop': interface 'lan0' is over 'eth0', which does not carry"
        " network 'lan'; it carries 'dmz'; declared at conftest.py:4;"
        ' try: links={"eth0": trunk(lan, ...)}'
    )


@pytest.mark.parametrize(
    ("forward", "message"),
    [
        (
            'Forward("wan0", 80, to="db")',
            "forward of port 80 on 'wan0' leads to 'db', which is no other machine of the layout"
            " with an address of IPv4; declared at conftest.py:4; try: an address, or one of 'web'",
        ),
        (
            'Forward("eth7", 80, to="web")',
            "forward of port 80 on 'eth7': the machine has no such interface, it has 'wan0';"
            " declared at conftest.py:4; try: the name of one of them",
        ),
        (
            'Forward("wan0", 0, to="web")',
            "forward: port 0 is not from 1 to 65535; declared at conftest.py:4; try: port=80",
        ),
        (
            'Forward("wan0", 80, to="web", protocol="sctp")',
            "forward: protocol 'sctp' is unknown; declared at conftest.py:4; try: protocol=\"tcp\"",
        ),
    ],
)
def test_forward_that_is_wrong_is_refused(refused: Refused, forward: str, message: str) -> None:
    source = f"""
        class Shop(Layout):
            wan = Network("192.0.2.0/24")
            web = Machine(links={{"eth0": wan.at()}})
            gw = Machine(links={{"wan0": wan.at()}}, forwards=[{forward}])
    """
    assert refused(source) == f"machine 'gw' of layout 'Shop': {message}"


# what an adversary tried


def test_address_may_be_an_interface_of_the_same_network() -> None:
    lan = Network("10.0.0.0/24")
    plan = plan_of(lan=lan, web=host(lan, ip_interface("10.0.0.7/24")))
    assert link_of(plan, "web").address == ip_interface("10.0.0.7/24")


def test_auto_leaves_the_address_of_the_dns_server_alone() -> None:
    lan = Network(v4=V4Config(network="10.0.0.0/24", dns_servers=[".2"]))
    plan = plan_of(lan=lan, **{name: host(lan, "auto") for name in ("a", "b")})
    found = [str(link_of(plan, name).address) for name in ("a", "b")]
    assert found == ["10.0.0.1/24", "10.0.0.3/24"]


def test_forward_to_a_machine_leads_to_each_family_that_both_have() -> None:
    lan, wan = Network("10.0.0.0/24", "fd00::/64"), Network("192.0.2.0/24", "2001:db8::/64")
    web = host(lan, ".80", "::80")
    links = {"lan0": lan.at(".1", "::1"), "wan0": wan.at(".1", "::1")}
    gw = Machine(links=links, forwards=[Forward("wan0", 80, to=web)])
    plan = plan_of(lan=lan, wan=wan, web=web, gw=gw)
    assert [str(one.to) for one in plan.machines["gw"].forwards] == ["10.0.0.80", "fd00::80"]


@pytest.mark.parametrize(
    ("links", "message"),
    [
        pytest.param(
            '{"eth0": lan.at(ip_interface("10.0.0.7/16"))}',
            "address '10.0.0.7/16' of interface 'eth0' is outside network 'lan' (10.0.0.0/24)",
            id="interface of another network",
        ),
        pytest.param(
            '{"eth0": lan.at(None, public_address="192.0.2.1")}',
            "public_address= beside None, which means no addresses (interface 'eth0')",
            id="no address, but a public one",
        ),
        pytest.param(
            '{"eth0": lan.at(dns_name="a b")}',
            "dns_name 'a b' is no name for the DNS (interface 'eth0')",
            id="dns_name with a space",
        ),
        pytest.param(
            '{"eth0": lan.at(dns_name="localhost")}',
            "dns_name 'localhost' is no name for the DNS (interface 'eth0')",
            id="dns_name localhost",
        ),
        pytest.param(
            '{"eth0": lan.at(dns_name="Other")}',
            "dns_name 'Other' of interface 'eth0' is the name of machine 'other'",
            id="dns_name of another machine",
        ),
        pytest.param(
            '{"bond0": lan.at(bond=("eth0", "eth0"))}',
            "bond=['eth0', 'eth0'] has an interface twice (interface 'bond0')",
            id="bond of the same twice",
        ),
        pytest.param(
            '{"bond0": lan.at(bond=5)}',
            "bond=5 is no name of an interface (interface 'bond0')",
            id="bond of a number",
        ),
        pytest.param(
            '{"eth0": trunk(lan, lan)}',
            "Network('10.0.0.0/24') is on the trunk twice (interface 'eth0')",
            id="trunk of the same twice",
        ),
        pytest.param(
            '{"eth0": trunk(wire)}',
            "Network('10.2.0.0/30', kind='point-to-point') on a trunk is of kind 'point-to-point'"
            " (interface 'eth0')",
            id="trunk of a wire",
        ),
        pytest.param(
            '{"eth0": trunk(lan), "a": lan.at(over="eth0"), "b": lan.at(over="eth0")}',
            "interfaces 'a' and 'b' are both over 'eth0' to network 'lan'",
            id="one network of a trunk twice",
        ),
        pytest.param(
            '{"eth0": lan.at(), "a": tunnel.at(over="eth0"), "b": tunnel.at(over="eth0")}',
            "interfaces 'a' and 'b' are both ends of the tunnel 'tunnel'",
            id="both ends of a tunnel",
        ),
        pytest.param(
            '{"eth0": lan.at(), "a": tunnel.at(over="eth0"), "b": second.at(over="eth0")}',
            "interfaces 'a' and 'b' are of tunnels 'tunnel' and 'second', which have the vni 42",
            id="one VNI twice",
        ),
        pytest.param(
            '{"eth0": lan.at(mtu=600), "a": tunnel.at(over="eth0")}',
            "mtu 550 is not a number from 576 to 65535 (interface 'a', over 'eth0' with 600)",
            id="nothing left for the tunnel",
        ),
    ],
)
def test_link_that_no_kernel_could_make_is_refused(
    refused: Refused, links: str, message: str
) -> None:
    source = f"""
        from ipaddress import ip_interface
        from pytest_carthage import trunk
        class Shop(Layout):
            lan = Network("10.0.0.0/24", vlan_id=7)
            wire = Network("10.2.0.0/30", kind="point-to-point", vlan_id=8)
            tunnel = Network("10.3.0.0/24", kind="vxlan", vni=42)
            second = Network("10.4.0.0/24", kind="vxlan", vni=42)
            web = Machine(links={links})
            other = Machine(links={{
                "eth0": lan.at(), "t0": tunnel.at(over="eth0", mtu=1400),
            }})
    """
    assert refused(source).startswith(f"machine 'web' of layout 'Shop': {message}; declared at ")


@pytest.mark.parametrize(
    ("forward", "message"),
    [
        (
            'Forward("wan0", 80, to="fd00::80")',
            "leads to 'fd00::80', and that interface has no address of IPv6 to be reached by",
        ),
        (
            'Forward("wan0", 80, to="six")',
            "leads to 'six', which is no other machine of the layout with an address of IPv4",
        ),
    ],
)
def test_forward_into_another_family_is_refused(
    refused: Refused, forward: str, message: str
) -> None:
    source = f"""
        class Shop(Layout):
            wan = Network("192.0.2.0/24")
            lan = Network("fd00::/64")
            six = Machine(links={{"eth0": lan.at()}})
            gw = Machine(
                links={{"wan0": wan.at(), "lan0": lan.at()}}, forwards=[{forward}]
            )
    """
    assert f"forward of port 80 on 'wan0' {message}; declared" in refused(source)


def test_network_replaced_by_another_kind_is_refused_where_links_do_not_fit(
    refused: Refused,
) -> None:
    message = refused("""
        class Base(Layout):
            lan = Network("10.0.0.0/24")
            web = Machine(links={"eth0": lan.at()})

        class Shop(Base):
            lan = Network("10.0.0.0/24", kind="vxlan")
    """)
    assert message.startswith(
        "machine 'web' of layout 'Shop': a link to a network of kind 'vxlan' has to stand on one"
        " interface (interface 'eth0'); declared at conftest.py:"
    )


def test_loopback_addresses_are_of_the_machine_alone_and_known_by_its_name() -> None:
    class Routers(Layout):
        lan = Network("10.0.0.0/24")
        r1 = Machine(
            links={"eth0": lan.at(".1")}, loopback=["2001:db8::1", "10.255.0.1/32"], forward=True
        )
        r2 = Machine(loopback=ip_address("10.255.0.2"))

    plan = make_plan(Routers)
    assert [str(one) for one in plan.machines["r1"].loopback] == ["10.255.0.1", "2001:db8::1"]
    assert plan.hosts["10.255.0.1"] == plan.hosts["10.0.0.1"] == ("r1",)
    assert plan.hosts["10.255.0.2"] == ("r2",)
    assert plan.hosts_in(["lan"]) == plan.hosts


@pytest.mark.parametrize(
    ("loopback", "message"),
    [
        ('"10.255.0.0/24"', "loopback='10.255.0.0/24' is a whole network; {at}; try: loopback="),
        ('"127.0.0.1"', "loopback='127.0.0.1' is an address that no machine can have; {at}; try: "),
        ('"fe80::1"', "loopback='fe80::1' is an address that no machine can have; {at}; try: "),
        ('"r1"', "loopback='r1'"),
        ('["10.255.0.1", "10.255.0.2"]', "loopback has a second address of IPv4; {at}; try: "),
    ],
)
def test_loopback_that_is_wrong_is_refused(refused: Refused, loopback: str, message: str) -> None:
    said = refused(f"class Shop(Layout):\n    web = Machine(loopback={loopback})")
    expected = message.format(at="declared at conftest.py:2")
    assert said.startswith(f"machine 'web' of layout 'Shop': {expected}")


def test_loopback_of_two_machines_is_refused(refused: Refused) -> None:
    source = """
        class Shop(Layout):
            lan = Network("10.0.0.0/24")
            a = Machine(loopback="10.255.0.1")
            b = Machine({given})
    """
    twice = refused(source.format(given='loopback="10.255.0.1"'))
    assert twice.startswith(
        "machine 'b' of layout 'Shop': loopback address '10.255.0.1' is that of machine 'a';"
    )
    near = refused(source.format(given='links={"eth0": lan.at(None, expects="10.255.0.1/24")}'))
    assert (
        "is the loopback address of machine 'a', and that of machine 'b' in network 'lan'" in near
    )
