"""DHCP and DNS: what dnsmasq is told, and what machines then get and resolve."""

from __future__ import annotations

import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address

import pytest

from pytest_carthage import Layout, Machine, Network, V4Config, V6Config
from pytest_carthage.errors import LayoutError
from pytest_carthage.live.machines.machine import MachineHandle
from pytest_carthage.planning import make_plan
from pytest_carthage.roles import DhcpServer, DnsServer, Router
from pytest_carthage.roles.dhcp_dns import files
from tests.live.conftest import Build


def told(layout: type[Layout], machine: str = "gw") -> Mapping[str, list[str]]:
    """What dnsmasq reads, without what is always the same."""
    plan = make_plan(layout)
    return {name: text.splitlines() for name, text in files(plan, plan.machines[machine]).items()}


class Office(Layout):
    """Both families, both roles; `pc` is known to the layout, `guest` takes what it gets."""

    lan = Network(
        v4=V4Config(
            network="10.0.0.0/24",
            gateway="10.0.0.1",
            domains=("office.example", "example"),
            dhcp_ranges=[("10.0.0.100", "10.0.0.150")],
        ),
        v6=V6Config(network="fd00:1::/64", gateway="fd00:1::1"),
        mtu=1400,
    )
    gw = Machine(
        links={"lan0": lan.at(".1", "::1")},
        roles=[DhcpServer(), DnsServer(domain="office.example")],
    )
    pc = Machine(
        links={
            "eth0": lan.at(
                v4=V4Config(address=".7", dhcp=True),
                v6=V6Config(address="::7", dhcp=True),
                dns_name="printer",
            )
        }
    )
    guest = Machine(links={"eth0": lan.at(v4=V4Config(dhcp=True), v6=V6Config(address="::8"))})


# what dnsmasq is told


def test_ranges_options_and_reservations_come_from_the_layout() -> None:
    office = told(Office)
    assert "dhcp-range=set:lan,10.0.0.100,10.0.0.150,255.255.255.0,3600" in office["conf"]
    # nothing but what is reserved, and the machine is the way out
    assert "dhcp-range=set:lan,fd00:1::,static,64,3600" in office["conf"]
    assert "ra-param=lan0,mtu:1400,60,1800" in office["conf"]
    assert office["options"] == [
        "tag:lan,tag:!own4,option:router,10.0.0.1",
        "tag:lan,tag:!own4,option:dns-server,10.0.0.1",
        "tag:lan,tag:!own4,option:domain-name,office.example",
        "tag:lan,tag:!own4,option:domain-search,office.example,example",
        "tag:lan,tag:!own4,option:mtu,1400",
        "tag:lan,tag:!own6,option6:dns-server,[fd00:1::1]",
        "tag:lan,tag:!own6,option6:domain-search,office.example",
    ]
    pc, guest = (make_plan(Office).machines[name].links[0].mac for name in ("pc", "guest"))
    assert office["reservations"] == [
        f"{pc},id:00:03:00:01:{pc},10.0.0.7,[fd00:1::7],pc",
        f"{guest},id:00:03:00:01:{guest},guest",
    ]


def test_link_that_differs_from_its_network_gets_options_of_its_own() -> None:
    class Branch(Layout):
        lan = Network(v4=V4Config(network="10.0.0.0/24", gateway="10.0.0.1"))
        gw = Machine(links={"eth0": lan.at(".1", gateway=False)}, roles=[DhcpServer()])
        pc = Machine(links={"eth0": lan.at(".7", dhcp=True, gateway=False)})

    branch = told(Branch)
    assert ",set:own4,set:pc-eth0,10.0.0.7,pc" in branch["reservations"][0]
    assert branch["options"][:2] == [
        "tag:lan,tag:!own4,option:router,10.0.0.1",
        "tag:lan,tag:!own4,option:dns-server",
    ]
    # no value: nothing is said, where dnsmasq would name itself
    assert branch["options"][2] == "tag:pc-eth0,option:router"


def test_server_serves_the_networks_that_ask_or_that_it_was_told_to() -> None:
    class Two(Layout):
        lan = Network("10.0.0.0/24")
        wan = Network("198.51.100.0/24")
        gw = Machine(links={"lan0": lan.at(".1"), "wan0": wan.at(".1")}, roles=[DhcpServer()])
        pc = Machine(links={"eth0": lan.at(".7", dhcp=True)})
        both = Machine(
            links={"lan0": lan.at(".2"), "wan0": wan.at(".2")},
            roles=[DhcpServer(networks=("wan",), lease_s=120)],
        )

    assert [line for line in told(Two)["conf"] if line.startswith("dhcp-range")] == [
        "dhcp-range=set:lan,10.0.0.0,static,255.255.255.0,3600"
    ]
    assert [line for line in told(Two, "both")["conf"] if line.startswith("dhcp-range")] == [
        "dhcp-range=set:wan,198.51.100.0,static,255.255.255.0,120"
    ]


def test_prefix_for_slaac_is_advertised_with_ranges_and_without() -> None:
    class Six(Layout):
        plain = Network(v6=V6Config(network="fd00:1::/64", slaac=True))
        full = Network(
            v6=V6Config(
                network="fd00:2::/64", slaac=True, dhcp_ranges=[("fd00:2::100", "fd00:2::1ff")]
            )
        )
        gw = Machine(
            links={
                "a": plain.at(v6=V6Config(address="::1", slaac=False)),
                "b": full.at(v6=V6Config(address="::1", slaac=False)),
            },
            roles=[DhcpServer()],
        )

    assert [line for line in told(Six)["conf"] if line[:3] in ("dhc", "ra-")][-4:] == [
        "dhcp-range=set:plain,fd00:1::,ra-only,64,3600",
        "ra-param=a,60,0",
        "dhcp-range=set:full,fd00:2::100,fd00:2::1ff,slaac,64,3600",
        "ra-param=b,60,0",
    ]


def test_names_of_machines_interfaces_and_links_stand_for_all_addresses() -> None:
    class Shop(Layout):
        lan = Network("10.0.0.0/24")
        dmz = Network("192.0.2.0/24")
        ns_1 = Machine(
            links={
                "lan0": lan.at(".1", secondary_addresses=[".3"]),
                "dmz0": dmz.at(".1", dns_name="www.example"),
            },
            roles=[DnsServer(domain="shop.example")],
        )

    assert told(Shop, "ns_1")["hosts"] == [
        "10.0.0.1 ns-1.shop.example ns-1 ns_1.shop.example ns_1"
        " lan0.ns-1.shop.example lan0.ns-1 lan0.ns_1.shop.example lan0.ns_1",
        "10.0.0.3 lan0.ns-1.shop.example lan0.ns-1 lan0.ns_1.shop.example lan0.ns_1",
        "192.0.2.1 www.example.shop.example www.example"
        " dmz0.ns-1.shop.example dmz0.ns-1 dmz0.ns_1.shop.example dmz0.ns_1",
    ]


def test_server_of_some_networks_tells_public_addresses_of_the_others() -> None:
    class Inter(Layout):
        lan = Network("10.0.0.0/24")
        net = Network("198.51.100.0/24")
        ns = Machine(links={"eth0": net.at(".53")}, roles=[DnsServer(networks=("net",))])
        hidden = Machine(links={"eth0": lan.at(".7")})
        shown = Machine(links={"eth0": lan.at(".8", public_address="198.51.100.8")})

    assert told(Inter, "ns")["hosts"] == [
        "198.51.100.53 ns eth0.ns",
        "198.51.100.8 shown eth0.shown",
    ]


def test_loopback_addresses_have_names_and_expected_ones_too() -> None:
    class Routers(Layout):
        lan = Network("10.0.0.0/24")
        ns = Machine(links={"eth0": lan.at(".1")}, roles=[DnsServer()], loopback="10.255.0.1")
        r2 = Machine(links={"eth0": lan.at(None, expects=".2")})
        r3 = Machine(loopback="10.255.0.3")

    assert told(Routers, "ns")["hosts"] == [
        "10.0.0.1 ns eth0.ns",
        "10.255.0.1 lo.ns",
        "10.0.0.2 r2 eth0.r2",
        "10.255.0.3 r3 lo.r3",
    ]


def test_names_of_the_layout_are_never_asked_upstream() -> None:
    class Up(Layout):
        lan = Network("10.0.0.0/24")
        ns = Machine(
            links={"eth0": lan.at(".1")},
            roles=[DnsServer(domain="up.example", upstream="10.0.0.2")],
        )
        root = Machine(links={"eth0": lan.at(".2")}, roles=[DnsServer()])

    up, root = told(Up, "ns")["conf"], told(Up, "root")["conf"]
    assert [line for line in up if line.startswith(("local=", "server="))] == [
        "local=/up.example/",
        "local=/ns/",
        "local=/root/",
        "server=10.0.0.2",
    ]
    assert "local=/#/" in root
    assert not [line for line in root if line.startswith("server=")]


def test_lease_that_is_too_short_for_dnsmasq_is_refused() -> None:
    with pytest.raises(LayoutError, match=r"lease_s=60 is below 120.*try: lease_s=120"):
        DhcpServer(lease_s=60)


def test_arguments_that_make_no_sense_are_refused() -> None:
    with pytest.raises(
        LayoutError, match=r"upstream='ns.example' is not an address.*; try: that of"
    ):
        DnsServer(upstream="ns.example")
    with pytest.raises(LayoutError, match=r"domain='a b' is not a domain name.*; try: domain="):
        DnsServer(domain="a b")

    class Wrong(Layout):
        lan = Network("10.0.0.0/24")
        gw = Machine(links={"eth0": lan.at(".1")}, roles=[DhcpServer(networks=("wan",))])
        ns = Machine(links={"eth0": lan.at(".2")}, roles=[DnsServer(networks=("lan", "dmz"))])

    with pytest.raises(
        LayoutError,
        match=r"machine 'gw' of layout 'Wrong': DhcpServer\(networks=\.\.\.\) names 'wan', which "
        r"it does not have; try: one of lan",
    ):
        told(Wrong)
    with pytest.raises(LayoutError, match=r"DnsServer\(networks=\.\.\.\) names 'dmz'"):
        told(Wrong, "ns")


# what machines get


@pytest.fixture
def office(build: Build) -> Layout:
    return build(Office)


@dataclass(frozen=True)
class Answer:
    """What a DNS server said (RFC 1035)."""

    status: int
    is_authoritative: bool
    found: list[str]


TYPES = {"A": 1, "PTR": 12, "AAAA": 28}


def ask(machine: MachineHandle, name: str, kind: str = "A", server: str = "10.0.0.1") -> Answer:
    """Ask a DNS server from inside a machine, without what the machine has in /etc/hosts."""
    if kind == "PTR":
        name = ip_address(name).reverse_pointer
    labels = b"".join(bytes([len(one)]) + one.encode() for one in name.split("."))
    question = struct.pack(">6H", 7, 0x100, 1, 0, 0, 0) + labels
    question += struct.pack(">BHH", 0, TYPES[kind], 1)
    with machine.socket(type=socket.SOCK_DGRAM) as sock:
        sock.settimeout(5)
        sock.sendto(question, (server, 53))
        reply = sock.recv(4096)
    _, flags, _, count, _, _ = struct.unpack(">6H", reply[:12])
    at, found = len(question), []
    for _ in range(count):  # names of answers are pointers of two bytes
        length = struct.unpack(">H", reply[at + 10 : at + 12])[0]
        found.append(_read(reply, at + 12, length, kind))
        at += 12 + length
    return Answer(flags & 15, bool(flags & 0x400), found)


def _read(reply: bytes, at: int, length: int, kind: str) -> str:
    if kind != "PTR":
        return str(ip_address(reply[at : at + length]))
    labels = []
    while reply[at]:
        if reply[at] >= 0xC0:  # goes on elsewhere
            at = struct.unpack(">H", reply[at : at + 2])[0] & 0x3FFF
            continue
        labels.append(reply[at + 1 : at + 1 + reply[at]].decode())
        at += 1 + reply[at]
    return ".".join(labels)


NO_SUCH_NAME = 3


@pytest.mark.real
def test_machine_that_asks_gets_the_address_that_the_layout_says(office: Layout) -> None:
    pc, guest = office["pc"], office["guest"]
    addresses = pc.run("ip -brief address show eth0").stdout
    assert "10.0.0.7/24" in addresses
    assert "fd00:1::7/64" in addresses
    assert pc.address("lan") == "10.0.0.7"
    routes = pc.run("ip route show default; ip -6 route show default").stdout
    assert "default via 10.0.0.1 dev eth0" in routes
    assert "default via fd00:1::1 dev eth0" in routes
    assert "mtu 1400" in pc.run("ip link show eth0").stdout
    assert pc.run("cat /etc/resolv.conf").lines == [
        "search office.example example",
        "nameserver 10.0.0.1",
        "nameserver fd00:1::1",
    ]
    # it is not planned, but lent
    last = int(guest.address("lan").rpartition(".")[2])
    assert 100 <= last <= 150
    assert guest.addresses == {"eth0": f"10.0.0.{last}"}
    assert guest.ping("10.0.0.7") < 1.0


@pytest.mark.real
def test_names_resolve_forward_and_reverse(office: Layout) -> None:
    pc = office["pc"]
    assert ask(pc, "gw.office.example") == Answer(0, True, ["10.0.0.1"])
    assert ask(pc, "gw.office.example", "AAAA") == Answer(0, True, ["fd00:1::1"])
    assert ask(pc, "lan0.gw").found == ["10.0.0.1"]
    assert ask(pc, "printer.office.example").found == ["10.0.0.7"]
    assert ask(pc, "10.0.0.1", "PTR").found == ["gw.office.example"]
    assert ask(pc, "fd00:1::1", "PTR").found == ["gw.office.example"]
    # what was lent has a name, too
    assert ask(pc, "guest.office.example").found == [office["guest"].address("lan")]
    # as programs ask, with the search list
    found = pc.run(["getent", "-s", "dns", "ahostsv4", "lan0.gw"]).stdout
    assert found.startswith("10.0.0.1 ")


@pytest.mark.real
def test_names_of_nobody_do_not_exist(office: Layout) -> None:
    pc = office["pc"]
    for name in ("nobody.office.example", "www.debian.org", "nobody"):
        assert ask(pc, name).status == NO_SUCH_NAME
    with pytest.raises(OSError, match="no host 'nobody' in its /etc/hosts, and its resolver"):
        pc.ping("nobody")


@pytest.mark.real
def test_name_that_only_the_server_knows_is_found_by_ping_and_connect(office: Layout) -> None:
    pc = office["pc"]
    assert pc.ping("lan0.gw") < 1.0
    pc.connect(53, "gw.office.example").close()


@pytest.mark.real
def test_machine_that_joins_is_known_and_one_that_left_is_forgotten(office: Layout) -> None:
    pc = office["pc"]
    late = Machine(links={"eth0": Office.lan.at(".9", dhcp=True)})
    joined = office.add(name="late", machine=late)
    assert joined.address("lan") == "10.0.0.9"
    assert ask(pc, "late.office.example").found == ["10.0.0.9"]
    office.remove("late")
    assert ask(pc, "late.office.example").status == NO_SUCH_NAME
    # what was lent to it is free again
    assert office.add(name="later", machine=late).address("lan") == "10.0.0.9"


@pytest.mark.real
def test_server_and_client_that_are_started_again_serve_and_ask_again(office: Layout) -> None:
    gw, pc = office["gw"], office["pc"]
    pc.stop()
    gw.restart()
    pc.start()
    assert pc.address("lan") == "10.0.0.7"
    assert ask(pc, "gw.office.example").found == ["10.0.0.1"]
    # the second asks for the first time: nobody has two clients
    assert gw.logs().count("DHCPACK(lan0) 10.0.0.7 ") == 2


@pytest.mark.real
def test_server_listens_in_its_own_network_only(office: Layout) -> None:
    gw = office["gw"]
    listening = {(row["protocol"][:3], row["port"]) for row in gw.observe()["listening"]}
    assert {("tcp", 53), ("udp", 53), ("udp", 67)} <= listening
    others = office["pc"].observe()["listening"]
    assert not [row for row in others if row["port"] == 53]


@pytest.mark.real
def test_server_asks_upstream_for_what_it_does_not_know(build: Build) -> None:
    class Chain(Layout):
        lan = Network("10.0.0.0/24")
        net = Network("198.51.100.0/24")
        root = Machine(
            links={"eth0": net.at(".53")},
            roles=[DnsServer(domain="net.example", networks=("net",))],
        )
        gw = Machine(
            links={"lan0": lan.at(".1"), "net0": net.at(".1")},
            roles=[
                Router(masquerade="net0"),
                DnsServer(domain="lan.example", networks=("lan",), upstream="198.51.100.53"),
            ],
        )
        pc = Machine(links={"eth0": lan.at(v4=V4Config(gateway=".1", dns_servers=["10.0.0.1"]))})

    chain = build(Chain)
    pc = chain["pc"]
    assert pc.run("cat /etc/resolv.conf").lines == ["nameserver 10.0.0.1"]
    assert ask(pc, "root.net.example").found == ["198.51.100.53"]
    assert ask(pc, "pc.lan.example").found == [pc.address()]
    # a name of the layout that the server is not to tell is not asked for elsewhere
    assert ask(pc, "root.lan.example").status == NO_SUCH_NAME
