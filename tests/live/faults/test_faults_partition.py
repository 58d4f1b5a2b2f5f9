"""Cuts between machines, with real packets on the netns target."""

from __future__ import annotations

import asyncio
from ipaddress import ip_address

import pytest

from pytest_carthage import Layout, Machine, Network
from pytest_carthage.fabric.cuts import cut_rules
from pytest_carthage.live.faults.cuts import Group
from pytest_carthage.live.faults.disturbance import Disturbance
from tests.live.conftest import Build

pytestmark = pytest.mark.real


class Sites(Layout):
    """Two networks, a router, and a network where an address of the other one is used again."""

    lan = Network("10.0.0.0/24")
    dmz = Network("10.1.0.0/24")
    gw = Machine(links={"lan0": lan.at(".254"), "dmz0": dmz.at(".254")}, forward=True)
    a = Machine(links={"eth0": lan.at(".1", gateway=".254")})
    b = Machine(links={"eth0": lan.at(".2", gateway=".254")})
    c = Machine(links={"eth0": dmz.at(".1", gateway=".254")})
    d = Machine(links={"eth0": dmz.at(".2", gateway=".254")})


@pytest.fixture
def sites(build: Build) -> Layout:
    return build(Sites)


def cut(sites: Layout, *groups: Group) -> Disturbance:
    return sites.partition(*groups)


def reaches(sites: Layout, source: str, target: str, *, timeout_s: float = 0.25) -> bool:
    try:
        sites[source].ping(sites[target].address(), timeout_s=timeout_s)
    except OSError:
        return False
    return True


def echoes(sites: Layout, name: str) -> int:
    """How many pings a machine has heard."""
    lines = sites[name].run("grep ^Icmp: /proc/net/snmp").lines
    return int(dict(zip(*(line.split() for line in lines), strict=True))["InEchos"])


def meet(sites: Layout, one: str, other: str) -> bool:
    """Whether both reach each other, at once: the kernel asks for neighbours once a second."""
    return reaches(sites, one, other, timeout_s=0.9) and reaches(sites, other, one, timeout_s=0.9)


def apart(sites: Layout, one: str, other: str) -> bool:
    """Whether neither reaches the other."""
    return not reaches(sites, one, other) and not reaches(sites, other, one)


def test_partition_on_one_network(sites: Layout) -> None:
    with cut(sites, "a", "b"):
        assert apart(sites, "a", "b")
        assert meet(sites, "a", "c")
        assert meet(sites, "b", "gw")
    assert meet(sites, "a", "b")


def test_partition_stops_every_frame_not_only_packets_of_ip(sites: Layout) -> None:
    a = sites["a"]
    a.ping("b")
    with cut(sites, "a", "b"):
        a.run("ip neigh flush all")
        assert not reaches(sites, "a", "b")
        assert "lladdr" not in a.run("ip neigh show 10.0.0.2").stdout


def test_partition_holds_where_one_router_hides_addresses(sites: Layout) -> None:
    a, gw = sites["a"], sites["gw"]
    sites["c"].run("ip address add 10.1.0.77/24 dev eth0")
    gw.run(
        "nft -f -",
        input="table ip hide {\n"
        "chain out { type nat hook postrouting priority 100; oifname dmz0 masquerade\n}\n"
        "chain in { type nat hook prerouting priority -100; "
        "ip daddr 10.0.0.254 icmp type echo-request dnat to 10.1.0.1\n}\n}\n",
    )
    a.ping("10.1.0.77")
    with cut(sites, "a", "c"), pytest.raises(OSError, match=r"no echo|unreachable"):
        a.ping("10.1.0.77", timeout_s=0.3)  # c sees the router's address
    gw.run("nft flush chain ip hide out")
    a.ping("10.0.0.254")  # c answers
    heard = echoes(sites, "c")
    with cut(sites, "a", "c"), pytest.raises(OSError, match=r"no echo|unreachable"):
        a.ping("10.0.0.254", timeout_s=0.3)  # a names the router's address
    assert echoes(sites, "c") == heard > 0


def test_partition_holds_across_a_router_that_is_in_no_group(sites: Layout) -> None:
    a, b, c, d = (sites[name] for name in "abcd")
    fault = cut(sites, {a, b}, {c})
    assert apart(sites, "a", "c")
    assert apart(sites, "b", "c")
    assert meet(sites, "a", "b")
    assert meet(sites, "a", "d")
    assert meet(sites, "c", "d")
    assert meet(sites, "c", "gw")
    fault.heal()
    assert meet(sites, "a", "c")
    assert fault.subject == "partition a b | c"
    assert d.run("true").ok


def test_partition_of_the_router_stops_what_it_carries(sites: Layout) -> None:
    with cut(sites, ["gw"], ["c", "d"]):
        assert apart(sites, "a", "c")
        assert meet(sites, "a", "gw")
        assert meet(sites, "c", "d")


def test_partition_of_addresses_that_were_added_later(sites: Layout) -> None:
    for name, address in (("a", "fd00::1/64"), ("b", "fd00::2/64")):
        sites[name].run(
            "sysctl -qw net.ipv6.conf.eth0.disable_ipv6=0; "
            f"ip -6 address add {address} dev eth0 nodad"
        )
    sites["c"].run("ip address add 10.1.0.77/24 dev eth0")
    a = sites["a"]
    a.ping("fd00::2")
    a.ping("10.1.0.77")
    with cut(sites, "a", {"b", "c"}):
        for address in ("fd00::2", "10.1.0.77"):
            with pytest.raises(OSError, match=r"no echo|unreachable"):
                a.ping(address, timeout_s=0.25)
    a.ping("10.1.0.77")
    a.ping("fd00::2")


def test_partitions_stack_and_heal_in_any_order(sites: Layout) -> None:
    first = cut(sites, "a", {"b", "c"})
    second = cut(sites, {"a", "d"}, "b")
    assert not reaches(sites, "a", "b")
    assert not reaches(sites, "a", "c")
    assert not reaches(sites, "d", "b")
    first.heal()
    assert not reaches(sites, "a", "b")
    assert meet(sites, "a", "c")
    second.heal()
    assert meet(sites, "a", "b")
    assert meet(sites, "b", "d")


def test_partition_holds_for_links_on_the_relay(sites: Layout) -> None:
    early = sites["a"].link("eth0").impair(delay_ms=2)
    with cut(sites, "a", "b"):
        assert apart(sites, "a", "b")
        late = sites["b"].link("eth0").impair(delay_ms=2)
        assert apart(sites, "a", "b")
        early.heal()
        assert apart(sites, "a", "b")
        assert meet(sites, "b", "c")
    assert meet(sites, "a", "b")
    late.heal()


def test_partition_does_not_cut_who_has_the_same_address_elsewhere(build: Build) -> None:
    class Twins(Layout):
        left = Network("10.0.0.0/24")
        right = Network("10.0.0.0/24")
        a = Machine(links={"eth0": left.at(".1")})
        b = Machine(links={"eth0": left.at(".2")})
        c = Machine(links={"eth0": right.at(".2")})
        d = Machine(links={"eth0": right.at(".1")})

    twins = build(Twins)
    with cut(twins, "a", "c"):
        assert meet(twins, "a", "b")
        assert meet(twins, "c", "d")
    with cut(twins, "a", "b"):
        assert apart(twins, "a", "b")
        assert meet(twins, "c", "d")


def test_partition_between_sites_of_equal_addresses_cuts_neither_within(build: Build) -> None:
    class Twins(Layout):
        west = Network("10.0.0.0/24")
        east = Network("10.0.0.0/24")
        w1 = Machine(links={"eth0": west.at(".1")})
        w2 = Machine(links={"eth0": west.at(".2")})
        e1 = Machine(links={"eth0": east.at(".1")})
        e2 = Machine(links={"eth0": east.at(".2")})

    twins = build(Twins)
    with cut(twins, {"w1", "w2"}, {"e1", "e2"}):
        assert meet(twins, "w1", "w2")
        assert meet(twins, "e1", "e2")


def test_partition_refuses_what_makes_no_sense(sites: Layout) -> None:
    partition = sites.aio.partition
    with pytest.raises(
        LookupError, match="layout 'Sites' has no machine 'x'; its machines are: gw"
    ):
        partition({"a"}, {"x"})
    with pytest.raises(ValueError, match="machine 'a' is in two groups of a partition"):
        partition({"a", "b"}, {"a"})
    with pytest.raises(ValueError, match="layout 'Sites': a partition has at least two groups"):
        partition({"a", "b"})
    with pytest.raises(ValueError, match="a partition's group is empty"):
        partition({"a"}, set())
    with pytest.raises(TypeError, match="3 is not a machine; try: its handle or its name"):
        partition({"a"}, {3})  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="3 is neither a machine nor a set"):
        partition({"a"}, 3)  # type: ignore[arg-type]


def test_async_partition(sites: Layout) -> None:
    async def go() -> None:
        async with sites.aio.partition("a", sites["b"].aio) as fault:
            assert fault.kind == "partition"
            with pytest.raises(OSError, match=r"no echo|unreachable"):
                await sites.aio.handle("a").ping("b", timeout_s=0.2)
        await sites.aio.handle("a").ping("b", timeout_s=3)

    asyncio.run(go())


def test_rules_name_each_side_and_end_with_a_drop() -> None:
    def group(number: int) -> dict[str, object]:
        address = str(ip_address("10.0.0.0") + number)
        return {"ports": [f"p{number}"], "v4": [address], "v6": [], "shared": {}}

    text = cut_rules("cgcut1", [group(1), group(2), {**group(3), "shared": {"10.0.0.3": ["q"]}}])
    assert 'iifname { "p1" } oifname { "p2", "p3" } drop' in text
    assert 'iifname { "p2" } ip daddr { 10.0.0.1, 10.0.0.3 } drop' in text
    assert 'oifname { "p3" } ip saddr { 10.0.0.1, 10.0.0.2 } drop' in text
    assert text.index('oifname { "q" } ip daddr 10.0.0.3 return') < text.index("ip daddr {")
