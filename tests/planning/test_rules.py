"""Rules on the machines of a layout together: what is refused, and what each message says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from pytest_carthage import Forward, Layout, LayoutError, Machine, Network, Role, V4Config
from pytest_carthage.planning import make_plan
from pytest_carthage.planning.plan import Plan
from pytest_carthage.roles import DhcpServer

Refused = Callable[[str], str]
Declare = Callable[[str], dict[str, Any]]


def plan_of(**members: Any) -> Plan:
    return make_plan(Layout.of("Shop", members))


AROUND = """
class Shop(Layout):
    lan = Network("10.0.0.0/24", "fd00::/64")
    wan = Network("192.0.2.0/24")
    frames = Network()
    web = Machine(links={"eth0": lan.at(".80", "::80")})
    gw = Machine(
        links={"lan0": lan.at(".1", "::1"), "wan0": wan.at(".1"), "f0": frames.at(None)}, MORE
    )
"""
AT = "declared at conftest.py:6"
INNER = "declared at conftest.py:7"


@pytest.mark.parametrize(
    ("more", "message"),
    [
        pytest.param(
            'forwards=[Forward("wan0", 80, to="web"), Forward("wan0", 80, to="10.0.0.9")]',
            "forward of port 80 on 'wan0': this port leads to 10.0.0.80 already;"
            f" {INNER}; try: one of them",
            id="a port forwarded twice",
        ),
        pytest.param(
            'roles=[type("Odd", (Role,), {"forwards": (8080,)})()]',
            f'forwards has 8080; {AT}; try: forwards=[Forward("wan0", 80, to="web")]',
            id="no forward of a role",
        ),
        pytest.param(
            'roles=[type("Odd", (Role,), {"forwards": 8080})()]',
            f'forwards has 8080; {AT}; try: forwards=[Forward("wan0", 80, to="web")]',
            id="no list of forwards of a role",
        ),
        pytest.param(
            'forwards=Forward("wan0", 80, to="gw")',
            "forward of port 80 on 'wan0' leads to 'gw', which is no other machine of the layout"
            f" with an address of IPv4; {INNER}; try: an address, or one of 'web'",
            id="forward to itself",
        ),
        pytest.param(
            'forwards=Forward("f0", 80, to="web")',
            "forward of port 80 on 'f0' leads to 'web', which is no other machine of the layout"
            f" with an address of any kind; {INNER}; try: an address",
            id="forward from an interface without an address",
        ),
        pytest.param(
            'forwards=Forward("wan0", 80, to="web", to_port=65536)',
            f"forward: to_port 65536 is not from 1 to 65535; {INNER}; try: to_port=80",
            id="port that there is not",
        ),
        pytest.param(
            'forwards=Forward("wan0", 80, to=web, protocol="icmp")',
            f"forward: protocol 'icmp' is unknown; {INNER}; try: protocol=\"tcp\"",
            id="protocol",
        ),
        pytest.param(
            'forwards=Forward("wan0", 80, to=7)',
            f'forward: to=7 is of a wrong type; {INNER}; try: to="web"',
            id="destination of a wrong type",
        ),
        pytest.param(
            'forwards=Forward("wan0", 80, to="fd00::80")',
            "forward of port 80 on 'wan0' leads to 'fd00::80', and that interface has no address of"
            f" IPv6 to be reached by; {INNER}; try: an address of IPv6 for it",
            id="forward to a family that the interface has not",
        ),
        pytest.param(
            'masquerade="f0"',
            "masquerade='f0': that interface has no address to hide behind;"
            f" {INNER}; try: an address for it",
            id="nothing to hide behind",
        ),
        pytest.param(
            'masquerade=["lan0", "eth7"]',
            "masquerade='eth7': the machine has no such interface, it has 'f0', 'lan0', 'wan0';"
            f" {AT}; try: the name of one of them",
            id="second interface to hide behind",
        ),
        pytest.param(
            'routes={"fd07::/64": "fd00::9"}',
            "next hop 'fd00::9' of the route to 'fd07::/64' is nobody's address in network 'lan';"
            f" {AT}; try: the address of another machine there: 10.0.0.80 (web), fd00::80 (web)",
            id="next hop of IPv6",
        ),
        pytest.param(
            'routes={"default": ".1"}',
            "next hop '.1' of the route to 'default' can be any of 10.0.0.1 (lan), 192.0.2.1 (wan);"
            f" {AT}; try: the whole address",
            id="next hop that two networks have",
        ),
        pytest.param(
            'routes={"10.9.0.0/16": "10.0.0.1"}',
            "next hop '10.0.0.1' of the route to '10.9.0.0/16' is the machine's own address;"
            f" {AT}; try: the address of another machine there: 10.0.0.80 (web), fd00::80 (web)",
            id="next hop itself",
        ),
        pytest.param(
            'hostname="web"',
            f"host name 'web' is taken by machine 'web'; {AT}; try: hostname=\"web-2\"",
            id="host name of another",
        ),
        pytest.param(
            'inventory_hostname="web"',
            f"inventory_hostname 'web' is taken by machine 'web'; {AT};"
            ' try: inventory_hostname="gw.example"',
            id="production's name of another",
        ),
        pytest.param(
            'after=["web", "db"]',
            f"after='db': the layout has no such machine, it has 'web'; {AT};"
            " try: the name of one of them",
            id="after a second that there is not",
        ),
    ],
)
def test_machine_that_does_not_fit_its_layout_is_refused(
    refused: Refused, more: str, message: str
) -> None:
    assert refused(AROUND.replace("MORE", more)) == f"machine 'gw' of layout 'Shop': {message}"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "a b",
            "the machine's name has other characters than A-Z a-z 0-9 _ . -;",
        ),
        ("-a", "the machine's name has other characters than A-Z a-z 0-9 _ . -;"),
        ("a" * 64, "the machine's name has 64 characters, at most 63 are possible;"),
    ],
)
def test_name_that_no_hosts_file_could_have_is_refused(name: str, message: str) -> None:
    with pytest.raises(LayoutError) as caught:
        Layout.of("Shop", {name: Machine()})
    assert str(caught.value).startswith(f"machine {name!r} of layout 'Shop': {message} declared at")
    assert str(caught.value).endswith("; try: a name such as 'web-1'")


@pytest.mark.parametrize(
    ("name", "hostname"),
    [("web", "web"), ("Web_1", "Web-1"), ("a" * 63, "a" * 63), ("web_", "web"), ("a.b", "a.b")],
)
def test_host_name_follows_from_the_name_of_the_member(name: str, hostname: str) -> None:
    assert plan_of(**{name: Machine()}).machines[name].hostname == hostname


@pytest.mark.parametrize(
    ("hostname", "remedy"),
    [
        ("-web", 'hostname="web"'),
        ("web..example", 'hostname="web-example"'),
        ("ä", 'hostname="web"'),
        ("web_1", 'hostname="web-1"'),
    ],
)
def test_host_name_that_is_none_is_refused_with_one_that_is(hostname: str, remedy: str) -> None:
    with pytest.raises(LayoutError) as caught:
        plan_of(web=Machine(hostname=hostname))
    assert f"host name {hostname!r} is not made of letters, digits and inner hyphens" in str(
        caught.value
    )
    assert str(caught.value).endswith(f"; try: {remedy}")


def test_role_may_have_one_forward_that_stands_for_itself() -> None:
    class Published(Role):
        forwards = Forward("wan0", 8080, to="web", to_port=80)  # type: ignore[assignment]

    lan, wan = Network("10.0.0.0/24"), Network("192.0.2.0/24")
    plan = plan_of(
        lan=lan,
        wan=wan,
        web=Machine(links={"eth0": lan.at(".80")}),
        gw=Machine(links={"lan0": lan.at(), "wan0": wan.at()}, roles=[Published()]),
    )
    gw = plan.machines["gw"]
    (forward,) = gw.forwards
    assert (forward.interface, forward.port, forward.to_port) == ("wan0", 8080, 80)
    assert (str(forward.to), forward.protocol, gw.forward) == ("10.0.0.80", "tcp", True)


def test_one_port_may_lead_to_two_machines_by_two_protocols_or_interfaces() -> None:
    lan, wan = Network("10.0.0.0/24"), Network("192.0.2.0/24")
    plan = plan_of(
        lan=lan,
        wan=wan,
        a=Machine(links={"eth0": lan.at(".10")}),
        b=Machine(links={"eth0": lan.at(".11")}),
        gw=Machine(
            links={"lan0": lan.at(".1"), "wan0": wan.at()},
            forwards=[
                Forward("wan0", 53, to="a"),
                Forward("wan0", 53, to="b", protocol="udp"),
                Forward("lan0", 53, to="b"),
            ],
        ),
    )
    assert [
        (one.interface, one.protocol, one.port, str(one.to), one.to_port)
        for one in plan.machines["gw"].forwards
    ] == [
        ("wan0", "tcp", 53, "10.0.0.10", 53),
        ("wan0", "udp", 53, "10.0.0.11", 53),
        ("lan0", "tcp", 53, "10.0.0.11", 53),
    ]


def test_forward_prefers_a_network_that_the_router_is_on_over_the_one_it_is_asked_on() -> None:
    lan, wan, far = Network("10.0.0.0/24"), Network("192.0.2.0/24"), Network("10.5.0.0/24")
    web = Machine(links={"w": wan.at(".9"), "f": far.at(".9"), "l": lan.at(".9")})
    gw = Machine(
        links={"wan0": wan.at(".1"), "lan0": lan.at(".1")}, forwards=Forward("wan0", 80, to=web)
    )
    plan = plan_of(far=far, wan=wan, lan=lan, web=web, gw=gw)
    assert [str(one.to) for one in plan.machines["gw"].forwards] == ["10.0.0.9"]


def test_next_hop_is_the_one_that_somebody_has_where_it_could_be_two() -> None:
    lan, wan = Network("10.0.0.0/24"), Network("192.0.2.0/24")
    plan = plan_of(
        lan=lan,
        wan=wan,
        router=Machine(links={"eth0": wan.at(".254")}),
        web=Machine(links={"a": lan.at(), "b": wan.at()}, routes={"default": ".254"}),
    )
    (route,) = plan.machines["web"].routes
    assert (str(route.destination), str(route.via)) == ("0.0.0.0/0", "192.0.2.254")


def test_default_route_of_ipv6_leads_everywhere_of_ipv6() -> None:
    lan = Network("10.0.0.0/24", "fd00::/64")
    plan = plan_of(
        lan=lan,
        router=Machine(links={"eth0": lan.at(".1", "::1")}),
        web=Machine(links={"eth0": lan.at()}, routes={"default": "fd00::1"}),
    )
    (route,) = plan.machines["web"].routes
    assert str(route.destination) == "::/0"


@pytest.mark.parametrize(
    ("gateway", "routes", "is_refused"),
    [
        ({"gateway": ".1"}, {"default": "192.0.2.1"}, True),
        ({"gateway": ".1", "metric": 0}, {"0.0.0.0/0": "192.0.2.1"}, True),
        ({"gateway": ".1", "metric": 1}, {"default": "192.0.2.1"}, False),
        ({"gateway": ".1"}, {"0.0.0.0/1": "192.0.2.1"}, False),
        ({"gateway": False}, {"default": "192.0.2.1"}, False),
    ],
)
def test_two_default_routes_need_two_metrics(
    gateway: dict[str, Any], routes: dict[str, str], is_refused: bool
) -> None:
    lan, wan = Network("10.0.0.0/24"), Network("192.0.2.0/24")

    def make() -> Plan:
        return plan_of(
            lan=lan,
            wan=wan,
            gw=Machine(links={"a": lan.at(".1"), "b": wan.at(".1")}),
            web=Machine(links={"a": lan.at(".2", **gateway), "b": wan.at(".2")}, routes=routes),
        )

    if not is_refused:
        assert make().machines["web"].routes
        return
    with pytest.raises(
        LayoutError,
        match=r"2 default routes: 10\.0\.0\.1 \(gateway of 'a'\), 192\.0\.2\.1 \(routes\)",
    ):
        make()


def test_masquerade_of_machine_and_roles_together_hides_on_each_and_makes_a_router() -> None:
    class Hides(Role):
        masquerade = ("b",)

    lan, wan = Network("10.0.0.0/24", "fd00::/64"), Network("192.0.2.0/24")
    plan = plan_of(
        lan=lan,
        wan=wan,
        gw=Machine(
            links={"a": lan.at(), "b": wan.at(), "c": wan.at()}, roles=[Hides()], masquerade="a"
        ),
    )
    gw = plan.machines["gw"]
    assert gw.forward
    assert [link.interface for link in gw.links if link.masquerade] == ["a", "b"]
    (lan0, *_) = gw.links
    assert [one.masquerade for one in lan0.addressings] == [True, True]


def test_host_of_one_link_that_inherits_masquerade_is_no_router() -> None:
    lan = Network(v4=V4Config(network="10.0.0.0/24", masquerade=True))
    dmz = Network("192.0.2.0/24")
    plan = plan_of(
        lan=lan,
        dmz=dmz,
        one=Machine(links={"eth0": lan.at()}),
        two=Machine(links={"eth0": lan.at(), "eth1": dmz.at()}),
        # of two links, but nothing hides behind one of them
        plain=Machine(links={"eth0": lan.at(masquerade=False), "eth1": dmz.at()}),
    )
    assert [name for name, machine in plan.machines.items() if machine.forward] == ["two"]


def test_machine_waits_for_those_that_it_names_and_who_gives_it_addresses_each_once() -> None:
    lan = Network(v4=V4Config(network="10.0.0.0/24", dhcp_ranges=[(".100", ".199")]))
    server = Machine(links={"eth0": lan.at(".1")}, roles=[DhcpServer()])
    db = Machine()
    plan = plan_of(
        lan=lan,
        client=Machine(links={"eth0": lan.at(dhcp=True)}, after=[db, "db", server]),
        server=server,
        db=db,
    )
    assert plan.machines["client"].after == ("db", "server")
    assert plan.machines["server"].after == ()


def test_circle_is_told_from_the_first_machine_that_is_in_it(refused: Refused) -> None:
    message = refused("""
        class Shop(Layout):
            free = Machine()
            a = Machine(after="free")
            b = Machine(after="d")
            c = Machine(after=["a", "b"])
            d = Machine(after="c")
    """)
    assert message == (
        "machine 'b' of layout 'Shop': after= goes in a circle: 'b' after 'd' after 'c' after 'b';"
        " declared at conftest.py:4; try: leave one of them out"
    )


def test_circle_that_a_dhcp_server_closes_is_told_too(refused: Refused) -> None:
    message = refused("""
        class Shop(Layout):
            lan = Network(v4=V4Config(network="10.0.0.0/24", dhcp_ranges=[(".100", ".199")]))
            client = Machine(links={"eth0": lan.at(dhcp=True)})
            server = Machine(links={"eth0": lan.at(".1")}, roles=[DhcpServer()], after=client)
    """)
    assert "after= goes in a circle: 'client' after 'server' after 'client'" in message
