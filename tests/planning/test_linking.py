"""Links: what is refused of them together, who gets which address, and what stands on what."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_carthage import Layout, LayoutError, Machine, Network, V4Config, V6Config, trunk
from pytest_carthage.planning import make_plan
from pytest_carthage.planning.plan import Plan, PlannedLink
from pytest_carthage.roles import DhcpServer

Refused = Callable[[str], str]


def plan_of(**members: Any) -> Plan:
    return make_plan(Layout.of("Shop", members))


def links_of(plan: Plan, machine: str) -> dict[str, PlannedLink]:
    return {link.interface: link for link in plan.machines[machine].links}


AROUND = """
class Shop(Layout):
    lan = Network("10.0.0.0/24", vlan_id=1)
    dmz = Network("10.1.0.0/24", vlan_id=2)
    six = Network("fd00::/64")
    vx = Network("10.8.0.0/24", kind="vxlan")
    gre = Network("10.9.0.0/30", kind="gre")
    web = Machine(links={LINKS})
"""


@pytest.mark.parametrize(
    ("links", "message", "remedy"),
    [
        pytest.param(
            '"eth0": lan.at(), "v0": vx.at(over="eth0")',
            "interface 'v0' is the only end of the tunnel 'vx'",
            "a link to it on another machine",
            id="tunnel with one end",
        ),
        pytest.param(
            '"eth0": six.at(), "v0": vx.at(over="eth0")',
            "interface 'v0' is over 'eth0', which has no IPv4 address that is known before",
            "an address for 'eth0'",
            id="tunnel over IPv6",
        ),
        pytest.param(
            '"eth0": lan.at(None), "v0": vx.at(over="eth0")',
            "interface 'v0' is over 'eth0', which has no IPv4 address that is known before",
            "an address for 'eth0'",
            id="tunnel over an interface without an address",
        ),
        pytest.param(
            '"eth0": trunk(lan), "v0": vx.at(over="eth0")',
            "interface 'v0' is over 'eth0', which is of kind 'trunk'",
            "an interface with an address of an ordinary network",
            id="tunnel over a trunk",
        ),
        pytest.param(
            '"eth0": lan.at(), "v0": vx.at(over="eth0"), "g0": gre.at(over="v0")',
            "interface 'g0' is over 'v0', which is of kind 'vxlan'",
            "an interface with an address of an ordinary network",
            id="tunnel over a tunnel",
        ),
        pytest.param(
            '"v0": vx.at(over="v0")',
            "interface 'v0' is over 'v0', which the machine does not have; it has none",
            "the name of one of them",
            id="over itself",
        ),
        pytest.param(
            '"a": lan.at(), "b": dmz.at(), "v0": vx.at(over="c")',
            "interface 'v0' is over 'c', which the machine does not have; it has 'a', 'b'",
            "the name of one of them",
            id="over what there is not",
        ),
        pytest.param(
            '"eth0": lan.at(), "lan0": lan.at(over="eth0")',
            "interface 'lan0' is over 'eth0', which does not carry network 'lan'; it carries none",
            'links={"eth0": trunk(lan, ...)}',
            id="vlan over an ordinary link",
        ),
        pytest.param(
            '"eth0": lan.at(), "b0": dmz.at(bond=("eth0", "eth1"))',
            "interface 'eth0' is in the bond 'b0' and used elsewhere, too",
            "an interface of its own for each",
            id="bond of a link",
        ),
        pytest.param(
            '"b0": lan.at(bond=("p0", "p1")), "b1": dmz.at(bond=("p1", "p2"))',
            "interface 'p1' is in the bond 'b0' and used elsewhere, too",
            "an interface of its own for each",
            id="two bonds of one",
        ),
        pytest.param(
            '"a": lan.at(), "b": lan.at(v4=V4Config(network="10.1.0.0/24")), "c": dmz.at()',
            "interface 'b' is on network 'lan' (10.1.0.0/24) and interface 'c' on network 'dmz'"
            " (10.1.0.0/24), which overlap",
            "networks with different addresses, or a machine between them",
            id="overlap by a link's own subnet",
        ),
        pytest.param(
            '"eth0": lan.at("auto", dhcp=True)',
            "dhcp of interface 'eth0': nobody serves it in network 'lan'",
            "a machine there with roles=[DhcpServer()], or an address",
            id="reserved by nobody",
        ),
        pytest.param(
            '"eth0": six.at(slaac=True)',
            "slaac of interface 'eth0': nobody serves it in network 'six'",
            "a machine there with roles=[DhcpServer()], or an address",
            id="advertised by nobody",
        ),
        pytest.param(
            '"eth0": six.at(slaac=True, dhcp=True)',
            "both dhcp and slaac of interface 'eth0'",
            "one of them",
            id="dhcp and slaac",
        ),
        pytest.param(
            '"eth0": six.at("::7", slaac=True)',
            "address '::7' of interface 'eth0': with slaac, the address follows from the hardware"
            " address",
            "leave the address out, or slaac=False",
            id="address and slaac",
        ),
        pytest.param(
            '"eth0": lan.at(v6=V6Config(gateway="fd00::1"))',
            "gateway fd00::1 of interface 'eth0' is of IPv6, of which network 'lan' has no subnet",
            "another subnet in lan = Network(...)",
            id="gateway of another family",
        ),
        pytest.param(
            '"eth0": lan.at(v6=V6Config())',
            "a configuration of interface 'eth0' is of IPv6, of which network 'lan' has no subnet",
            "another subnet in lan = Network(...)",
            id="configuration of another family",
        ),
        pytest.param(
            '"eth0": lan.at(".7", secondary_addresses=".7")',
            "address '10.0.0.7' of interface 'eth0' is taken by machine 'web' in network 'lan'",
            '"10.0.0.1", or "auto"',
            id="secondary that it has already",
        ),
        pytest.param(
            '"eth0": lan.at(".7", v4=V4Config(public_address="fd00::1"))',
            "public_address 'fd00::1' of interface 'eth0' is not an IPv4 address",
            "public_address='10.0.0.1'",
            id="public address of another family",
        ),
        pytest.param(
            '"eth0": lan.at(".7", secondary_addresses=8)',
            "secondary_addresses=8 of interface 'eth0' is no list",
            "secondary_addresses=[...]",
            id="no list of secondaries",
        ),
        pytest.param(
            '"eth0": lan.at(v4=V4Config(address=lambda link: 1 / 0))',
            "the function for address failed: ZeroDivisionError: division by zero"
            " (at conftest.py:7)",
            "a function of a LinkContext that gives the address",
            id="function that fails",
        ),
        pytest.param(
            '"eth0": lan.at(v4=V4Config(network=lambda link: link.nothing))',
            "the function for network failed: AttributeError: 'LinkContext' object has no"
            " attribute 'nothing' (at conftest.py:7)",
            "a function of a LinkContext that gives the network",
            id="function for the network that fails",
        ),
    ],
)
def test_link_that_does_not_fit_is_refused(
    refused: Refused, links: str, message: str, remedy: str
) -> None:
    assert refused(AROUND.replace("LINKS", links)) == (
        f"machine 'web' of layout 'Shop': {message}; declared at conftest.py:7; try: {remedy}"
    )


def test_dhcp_without_a_range_needs_an_address_to_reserve(refused: Refused) -> None:
    source = """
        class Shop(Layout):
            lan = Network("10.0.0.0/24")
            server = Machine(links={"eth0": lan.at(".1")}, roles=[DhcpServer()])
            web = Machine(links={"eth0": lan.at(ADDRESS dhcp=True)})
    """
    assert refused(source.replace("ADDRESS", "")) == (
        "machine 'web' of layout 'Shop': dhcp of interface 'eth0': network 'lan' has no dhcp_ranges"
        ' to take an address from; declared at conftest.py:4; try: at("auto", dhcp=True) for a'
        ' reserved one, or dhcp_ranges=[(".100", ".199")]'
    )


@pytest.mark.parametrize("address", [".7", "auto"])
def test_address_that_a_server_is_to_reserve_is_known_before(address: str) -> None:
    lan = Network("10.0.0.0/24")
    plan = plan_of(
        lan=lan,
        server=Machine(links={"eth0": lan.at(".1")}, roles=[DhcpServer()]),
        web=Machine(links={"eth0": lan.at(address, dhcp=True)}),
    )
    link = links_of(plan, "web")["eth0"]
    assert str(link.address) == ("10.0.0.7/24" if address == ".7" else "10.0.0.2/24")
    assert link.v4 is not None
    assert link.v4.configured == ()


def test_address_in_a_served_range_may_be_reserved_and_a_secondary_may_not() -> None:
    lan = Network(v4=V4Config(network="10.0.0.0/24", dhcp_ranges=[(".100", ".199")]))
    server = Machine(links={"eth0": lan.at(".1")}, roles=[DhcpServer()])
    plan = plan_of(lan=lan, server=server, web=Machine(links={"eth0": lan.at(".100", dhcp=True)}))
    assert str(links_of(plan, "web")["eth0"].address) == "10.0.0.100/24"
    other = Network(v4=V4Config(network="10.0.0.0/24", dhcp_ranges=[(".100", ".199")]))
    with pytest.raises(
        LayoutError,
        match=r"secondary address '10\.0\.0\.199' of interface 'eth0' lies in the DHCP range"
        r" 10\.0\.0\.100 to 10\.0\.0\.199 of network 'lan'",
    ):
        plan_of(
            lan=other,
            web=Machine(links={"eth0": other.at(".9", secondary_addresses=[".199"])}),
        )


def test_full_network_lists_some_of_those_that_have_its_addresses(refused: Refused) -> None:
    message = refused("""
        class Shop(Layout):
            lan = Network("10.0.0.0/28")
            for number in range(15):
                vars()[f"m{number}"] = Machine(links={"eth0": lan.at()})
    """)
    taken = ", ".join(f"10.0.0.{number + 1} (m{number})" for number in range(8))
    assert message == (
        "machine 'm14' of layout 'Shop': interface 'eth0': no address is left in network 'lan'"
        f" (10.0.0.0/28) for 'auto'; taken: {taken} and 6 more; declared at conftest.py:4;"
        " try: a larger network"
    )


def test_pool_that_is_used_up_is_told_as_one(refused: Refused) -> None:
    message = refused("""
        class Shop(Layout):
            lan = Network(v4=V4Config(network="10.0.0.0/24", pool=(".7", ".7")))
            a = Machine(links={"eth0": lan.at()})
            b = Machine(links={"eth0": lan.at()})
    """)
    assert message.startswith(
        "machine 'b' of layout 'Shop': interface 'eth0': no address is left in the pool of network"
        " 'lan' (10.0.0.0/24) for 'auto'; taken: 10.0.0.7 (a);"
    )
    assert message.endswith("try: a larger pool")


def test_pool_whose_owners_are_all_told_has_no_more(refused: Refused) -> None:
    message = refused("""
        class Shop(Layout):
            lan = Network(v4=V4Config(network="10.0.0.0/24", pool=(".1", ".8")))
            for number in range(9):
                vars()[f"m{number}"] = Machine(links={"eth0": lan.at()})
    """)
    assert "10.0.0.7 (m6), 10.0.0.8 (m7); declared at" in message


def test_network_of_a_trunk_that_a_subclass_replaces_must_still_fit_a_trunk(
    refused: Refused,
) -> None:
    message = refused("""
        class Base(Layout):
            lan = Network("10.0.0.0/24", vlan_id=1)
            gw = Machine(links={"eth0": trunk(lan)})

        class Shop(Base):
            lan = Network("10.0.0.0/24")
    """)
    assert message == (
        "machine 'gw' of layout 'Shop': network 'lan' on a trunk has no vlan_id (interface 'eth0');"
        " declared at conftest.py:3; try: Network(..., vlan_id=10)"
    )


@pytest.mark.parametrize(
    ("links", "message"),
    [
        (
            '"a": vni_a.at(over="eth0"), "b": vni_a.at(over="eth0")',
            "interfaces 'a' and 'b' are both ends of the tunnel 'vni_a'; declared at"
            " conftest.py:5; try: one of them",
        ),
        (
            '"a": vni_a.at(over="eth0"), "b": vni_b.at(over="eth0")',
            "interfaces 'a' and 'b' are of tunnels 'vni_a' and 'vni_b', which have the vni 7;"
            " declared at conftest.py:5; try: another vni for one of them",
        ),
    ],
)
def test_remedy_is_for_the_mistake_and_not_for_what_names_sound_like(
    refused: Refused, links: str, message: str
) -> None:
    source = f"""
        class Shop(Layout):
            lan = Network("10.0.0.0/24")
            vni_a = Network("10.8.0.0/24", kind="vxlan", vni=7)
            vni_b = Network("10.9.0.0/24", kind="vxlan", vni=7)
            web = Machine(links={{"eth0": lan.at(), {links}}})
    """
    assert refused(source) == f"machine 'web' of layout 'Shop': {message}"


def test_wire_with_a_third_end_names_the_two_that_it_has(refused: Refused) -> None:
    message = refused("""
        class Shop(Layout):
            lan = Network("10.0.0.0/24")
            tunnel = Network("10.9.0.0/29", kind="gre")
            a = Machine(links={"eth0": lan.at(), "t0": tunnel.at(over="eth0")})
            b = Machine(links={"eth0": lan.at(), "t1": tunnel.at(over="eth0")})
            c = Machine(links={"eth0": lan.at(), "t2": tunnel.at(over="eth0")})
    """)
    assert message == (
        "machine 'c' of layout 'Shop': interface 't2': network 'tunnel' of kind 'gre' has its two"
        " ends already, at a.t0 and b.t1; declared at conftest.py:6;"
        " try: a network of its own, or a bridged one"
    )


def test_bridge_and_vxlan_have_as_many_ends_as_one_likes() -> None:
    lan, tunnel = Network("10.0.0.0/24"), Network("10.9.0.0/24", kind="vxlan")
    links = {"eth0": lan.at(), "t0": tunnel.at(over="eth0")}
    plan = plan_of(lan=lan, tunnel=tunnel, **{name: Machine(links=links) for name in "abc"})
    underlays = [links_of(plan, name)["t0"].underlay for name in "abc"]
    assert [
        (str(one.local), list(map(str, one.remotes))) for one in underlays if one is not None
    ] == [
        ("10.0.0.1", ["10.0.0.2", "10.0.0.3"]),
        ("10.0.0.2", ["10.0.0.1", "10.0.0.3"]),
        ("10.0.0.3", ["10.0.0.1", "10.0.0.2"]),
    ]


@pytest.mark.parametrize(
    ("kind", "under", "own", "mtu"),
    [
        ("vxlan", {}, {}, 1450),
        ("gre", {}, {}, 1476),
        ("vxlan", {"mtu": 9000}, {}, 8950),
        ("gre", {"mtu": 1400}, {"mtu": 1300}, 1300),
    ],
)
def test_tunnel_leaves_room_for_its_headers(
    kind: Any, under: dict[str, Any], own: dict[str, Any], mtu: int
) -> None:
    lan, tunnel = Network("10.0.0.0/24"), Network("10.9.0.0/24", kind=kind)
    links = {"eth0": lan.at(**under), "t0": tunnel.at(over="eth0", **own)}
    plan = plan_of(lan=lan, tunnel=tunnel, a=Machine(links=links), b=Machine(links=links))
    assert links_of(plan, "a")["t0"].mtu == mtu


def test_tunnel_leaves_room_in_what_the_network_below_says() -> None:
    lan, tunnel = Network("10.0.0.0/24", mtu=2000), Network("10.9.0.0/24", kind="vxlan")
    links = {"eth0": lan.at(), "t0": tunnel.at(over="eth0")}
    plan = plan_of(lan=lan, tunnel=tunnel, a=Machine(links=links), b=Machine(links=links))
    assert links_of(plan, "a")["t0"].mtu == 1950
    assert links_of(plan, "a")["eth0"].mtu == 2000


def test_two_networks_of_one_trunk_may_be_one_network_of_two_trunks() -> None:
    lan = Network("10.0.0.0/24", vlan_id=1)
    plan = plan_of(
        lan=lan,
        gw=Machine(
            links={
                "a": trunk(lan),
                "b": trunk(lan),
                "a0": lan.at(over="a"),
                "b0": lan.at(over="b"),
            }
        ),
    )
    links = links_of(plan, "gw")
    assert [links[name].over for name in ("a0", "b0")] == [("a",), ("b",)]
    assert [one.port for link in links.values() for one in link.vlans] == ["gw-a.1", "gw-b.1"]
    assert plan.other_ends("gw", "a0") == (("gw", "b0"),)


def test_trunks_have_no_other_ends_of_their_own() -> None:
    lan, dmz = Network("10.0.0.0/24", vlan_id=1), Network("10.1.0.0/24", vlan_id=2)
    plan = plan_of(
        lan=lan,
        dmz=dmz,
        a=Machine(links={"eth0": trunk(lan)}),
        b=Machine(links={"eth0": trunk(dmz)}),
    )
    assert plan.other_ends("a", "eth0") == ()
    with pytest.raises(KeyError, match="eth7"):
        plan.other_ends("a", "eth7")
    with pytest.raises(KeyError, match="nobody"):
        plan.other_ends("nobody", "eth0")


def test_links_are_made_after_what_they_stand_on_wherever_they_are_written() -> None:
    lan = Network("10.0.0.0/24", vlan_id=1)
    tunnel = Network("10.9.0.0/24", kind="vxlan")
    links = {
        "t0": tunnel.at(over="lan0"),
        "lan0": lan.at(over="eth0"),
        "x0": lan.at(),
        "eth0": trunk(lan),
    }
    plan = plan_of(lan=lan, tunnel=tunnel, a=Machine(links=links), b=Machine(links=links))
    assert list(links_of(plan, "a")) == ["x0", "eth0", "lan0", "t0"]


@given(
    fixed=st.lists(st.integers(1, 30), unique=True, max_size=8),
    secondary=st.lists(st.integers(1, 30), unique=True, max_size=4),
    external=st.lists(st.integers(1, 30), unique=True, max_size=4),
    autos=st.integers(0, 8),
)
def test_auto_takes_the_lowest_that_nobody_else_has(
    fixed: list[int], secondary: list[int], external: list[int], autos: int
) -> None:
    secondary = [number for number in secondary if number not in fixed]
    external = [number for number in external if number not in {*fixed, *secondary}]
    lan = Network(
        v4=V4Config(network="10.0.0.0/27", external_addresses=[f".{number}" for number in external])
    )
    machines = {f"a{number}": Machine(links={"eth0": lan.at("auto")}) for number in range(autos)}
    for number in fixed:  # after those that take what is left
        machines[f"f{number}"] = Machine(links={"eth0": lan.at(f".{number}")})
    for number in secondary:
        config = V4Config(secondary_addresses=[f".{number}"])
        machines[f"s{number}"] = Machine(links={"eth0": lan.at("auto", v4=config)})
    free = [n for n in range(1, 31) if n not in {*fixed, *secondary, *external}]
    if len(free) < autos + len(secondary):
        with pytest.raises(LayoutError, match="no address is left"):
            plan_of(lan=lan, **machines)
        return
    plan = plan_of(lan=lan, **machines)
    asking = [name for name in machines if name[0] in "as"]
    given_out = [str(links_of(plan, name)["eth0"].address) for name in asking]
    assert given_out == [f"10.0.0.{number}/27" for number in free[: len(asking)]]


def test_hardware_addresses_are_unique_and_those_that_were_chosen_stay_free() -> None:
    lan = Network("10.0.0.0/24")
    derived = links_of(plan_of(lan=lan, web=Machine(links={"eth0": lan.at()})), "web")["eth0"].mac
    lan = Network("10.0.0.0/24")
    plan = plan_of(
        lan=lan,
        web=Machine(links={"eth0": lan.at()}),
        thief=Machine(links={"eth0": lan.at(mac=derived)}),
    )
    assert links_of(plan, "thief")["eth0"].mac == derived
    assert links_of(plan, "web")["eth0"].mac != derived


def test_one_mac_may_be_on_two_networks() -> None:
    lan, dmz = Network("10.0.0.0/24"), Network("10.1.0.0/24")
    mac = "02:00:00:00:00:01"
    plan = plan_of(
        lan=lan,
        dmz=dmz,
        web=Machine(links={"eth0": lan.at(mac=mac), "eth1": dmz.at(mac=mac)}),
    )
    assert [link.mac for link in links_of(plan, "web").values()] == [mac, mac]


def test_slaac_address_of_another_is_taken() -> None:
    lan = Network(v6=V6Config(network="fd00::/64"))
    server = Machine(links={"eth0": lan.at("::1")}, roles=[DhcpServer()])
    config = V6Config(slaac=True)
    with pytest.raises(LayoutError, match=r"'fd00::ff:fe00:1' of interface 'eth0' is taken"):
        plan_of(
            lan=lan,
            server=server,
            squatter=Machine(links={"eth0": lan.at("::ff:fe00:1")}),
            web=Machine(links={"eth0": lan.at(v6=config, mac="02:00:00:00:00:01")}),
        )


def test_foreign_network_of_a_trunk_is_refused_by_its_name(refused: Refused) -> None:
    message = refused("""
        class Other(Layout):
            store = Network("10.7.0.0/24", vlan_id=7)

        class Shop(Layout):
            lan = Network("10.0.0.0/24", vlan_id=1)
            web = Machine(links={"eth0": trunk(lan, Other.store)})
    """)
    assert message == (
        "machine 'web' of layout 'Shop': interface 'eth0' is on network 'store' 10.7.0.0/24, which"
        " is no member of the layout; its networks are 'lan'; declared at conftest.py:6;"
        ' try: store = Network("10.7.0.0/24") in the layout, and a link to that'
    )
