"""Links of each kind, with packets: what the fabric makes of a specification."""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Callable
from typing import Any

import pytest

from pytest_carthage.errors import FabricError
from pytest_carthage.fabric.host import capability, programs
from tests.fabric.conftest import Bench

pytestmark = pytest.mark.real

Link = dict[str, Any]


def link(interface: str, network: str | None = None, *addresses: str, **more: Any) -> Link:
    return {"interface": interface, "network": network, "addresses": list(addresses), **more}


def wait_for(condition: Callable[[], bool], what: str, limit_s: float = 5.0) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {limit_s:g} s: {what}"
        time.sleep(0.02)


def state(bench: Bench, machine: str, interface: str) -> dict[str, Any]:
    shown = json.loads(bench.run_in(machine, f"ip -j -d address show dev {interface}"))
    found: dict[str, Any] = shown[0]
    return found


def global_addresses(bench: Bench, machine: str, interface: str) -> list[str]:
    return [
        info["local"]
        for info in state(bench, machine, interface)["addr_info"]
        if info["scope"] == "global"
    ]


def has_carrier(bench: Bench, machine: str, interface: str) -> bool:
    return "LOWER_UP" in state(bench, machine, interface)["flags"]


def refused_here(kind: str) -> str | None:
    """Why this kernel refuses a kind of link; None: it does not."""
    return capability.probe([kind])[kind]


# bridged


def test_link_with_both_families_answers_on_both(bench: Bench) -> None:
    bench.networks(lan="bridged")
    bench.machines(
        {"name": "a", "links": [link("eth0", "lan", "10.0.0.1/24", "10.0.0.7/24", "fd00::1/64")]},
        {"name": "b", "links": [link("eth0", "lan", "10.0.0.2/24", "fd00::2/64")]},
    )
    for address in ("10.0.0.1", "10.0.0.7", "fd00::1"):
        assert bench.pings("b", address), address
    assert bench.pings("a", "fd00::2")


def test_link_without_ipv6_has_it_switched_off(bench: Bench) -> None:
    bench.networks(lan="bridged")
    bench.machine("a", link("eth0", "lan", "10.0.0.1/24", ipv6=False))
    assert [info["family"] for info in state(bench, "a", "eth0")["addr_info"]] == ["inet"]
    said = bench.run_in("a", "ip address add fd00::1/64 dev eth0", check=False)
    # what Linux 6.1 says is shorter
    assert "IPv6 is disabled on this device" in said or "Permission denied" in said


@pytest.mark.parametrize("address", ["10.0.0.2/24", "fd00::2/64"])
def test_link_has_a_link_local_address_that_may_be_used_at_once(bench: Bench, address: str) -> None:
    bench.networks(lan="bridged")
    bench.machine("b", link("eth0", "lan", address))
    found = state(bench, "b", "eth0")
    parts = [int(part, 16) for part in found["address"].split(":")]
    last = f"{parts[4]:02x}{parts[5]:02x}".lstrip("0")
    (local,) = [info for info in found["addr_info"] if info["scope"] == "link"]
    assert local["local"].startswith("fe80::")
    assert local["local"].endswith(last)
    assert not any(info.get("tentative") for info in found["addr_info"])


def test_link_that_is_down_in_the_plan_is_down_until_set_up(bench: Bench) -> None:
    bench.networks(lan="bridged", wan="bridged")
    failed = bench.machine(
        "a",
        link("eth0", "lan", "10.0.0.1/24", up=False),
        link("eth1", "wan", "192.0.2.1/24"),
        routes=[
            {"destination": None, "via": "10.0.0.2", "interface": "eth0", "metric": None},
            {"destination": "10.8.0.0/16", "via": "10.0.0.2", "interface": None, "metric": None},
            {"destination": "10.9.0.0/16", "via": "192.0.2.9", "interface": None, "metric": None},
        ],
    )
    assert failed == {}
    bench.machine("b", link("eth0", "lan", "10.0.0.2/24"))
    assert "UP" not in state(bench, "a", "eth0")["flags"]
    routes = bench.run_in("a", "ip route")
    assert "10.9.0.0/16 via 192.0.2.9 dev eth1" in routes
    assert "10.0.0.2" not in routes
    assert not bench.pings("b", "10.0.0.1")
    bench.run_in("a", "ip link set eth0 up")
    assert bench.pings("b", "10.0.0.1")


def test_routes_have_interface_and_metric(bench: Bench) -> None:
    bench.networks(lan="bridged", wan="bridged")
    bench.machine(
        "a",
        link("eth0", "lan", "10.0.0.1/24", "fd00::1/64"),
        link("eth1", "wan", "192.0.2.1/24"),
        routes=[
            {"destination": None, "via": "10.0.0.2", "interface": "eth0", "metric": 100},
            {"destination": None, "via": "192.0.2.2", "interface": "eth1", "metric": 50},
            {"destination": "fd01::/48", "via": "fd00::2", "interface": "eth0", "metric": 7},
            {"destination": "10.5.0.0/16", "via": None, "interface": "eth1", "metric": None},
        ],
    )
    lines = bench.run_in("a", "ip route; ip -6 route").splitlines()
    routes = [line.strip() for line in lines]
    assert "default via 10.0.0.2 dev eth0 metric 100" in routes
    assert "default via 192.0.2.2 dev eth1 metric 50" in routes
    assert "fd01::/48 via fd00::2 dev eth0 metric 7 pref medium" in routes
    assert "10.5.0.0/16 dev eth1 scope link" in routes
    assert "dev eth1" in bench.run_in("a", "ip route get 203.0.113.1")


def test_network_that_is_not_there_is_named(bench: Bench) -> None:
    bench.networks(lan="bridged")
    with pytest.raises(FabricError, match=r"no network on bridge 'br-wan'; there are: br-lan"):
        bench.machine("a", link("eth0", "wan"))
    assert bench.machine("a", link("eth0", "lan")) == {}


# IPv6 from a router


_ADVERTISE = (
    "dnsmasq --conf-file=/dev/null --port=0 --enable-ra --interface=eth0 --bind-interfaces "
    # as whoever it is started by: there may be no other users
    "--pid-file= --dhcp-range=fd00:5::,ra-only,64 --leasefile-ro --no-daemon >/dev/null 2>&1 &"
)


@pytest.fixture
def advertised(bench: Bench) -> Bench:
    """A network on which a router advertises fd00:5::/64."""
    lacks = programs.missing("netns", {"dnsmasq": "dnsmasq-base"}, "this test's router runs")
    if lacks:
        pytest.skip("; ".join(map(str, lacks)))
    bench.networks(lan="bridged", far="bridged")
    bench.machine(
        "router",
        link("eth0", "lan", "fd00:5::1/64"),
        link("eth1", "far", "fd00:6::1/64"),
        forward=True,
    )
    bench.machine("far", link("eth0", "far", "fd00:6::2/64", gateway="fd00:6::1"))
    bench.run_in("router", _ADVERTISE)
    return bench


def test_accept_ra_gives_the_address_of_the_mac_and_a_route(advertised: Bench) -> None:
    mac = "02:11:22:33:44:55"
    advertised.machine("host", link("eth0", "lan", accept_ra=True, mac=mac))
    wait_for(lambda: global_addresses(advertised, "host", "eth0") != [], "an address")
    assert global_addresses(advertised, "host", "eth0") == ["fd00:5::11:22ff:fe33:4455"]
    wait_for(lambda: "default" in advertised.run_in("host", "ip -6 route"), "a default route")
    # through the router, which forwards IPv6
    assert advertised.pings("host", "fd00:6::2")


def test_link_that_does_not_ask_takes_no_address_from_a_router(advertised: Bench) -> None:
    advertised.machines(
        {"name": "asks", "links": [link("eth0", "lan", accept_ra=True)]},
        {"name": "four", "links": [link("eth0", "lan", "10.0.0.4/24")]},
        {"name": "six", "links": [link("eth0", "lan", "fd00:5::6/64")]},
    )
    wait_for(lambda: global_addresses(advertised, "asks", "eth0") != [], "an address")
    assert global_addresses(advertised, "four", "eth0") == ["10.0.0.4"]
    assert global_addresses(advertised, "six", "eth0") == ["fd00:5::6"]
    assert "default" not in advertised.run_in("six", "ip -6 route")


def test_router_that_forwards_may_listen_to_another_router(advertised: Bench) -> None:
    advertised.machine("inner", link("eth0", "lan", accept_ra=True), forward=True)
    wait_for(lambda: global_addresses(advertised, "inner", "eth0") != [], "an address")
    assert advertised.run_in("inner", "cat /proc/sys/net/ipv6/conf/eth0/forwarding") == "1\n"


# point-to-point


@pytest.fixture
def wired(bench: Bench) -> Bench:
    bench.networks(wire="point-to-point")
    for name, address in (("a", "10.0.0.1/30"), ("b", "10.0.0.2/30")):
        assert bench.machine(name, link("eth0", "wire", address)) == {}
    return bench


def test_wire_carries_packets_and_learns_nothing(wired: Bench) -> None:
    assert wired.pings("a", "10.0.0.2")
    assert wired.pings("b", "10.0.0.1")
    learned = json.loads(wired.inside("bridge -j fdb show br br-wire dynamic"))
    macs = {state(wired, name, "eth0")["address"] for name in "ab"}
    assert [entry for entry in learned if entry["mac"] in macs] == []


@pytest.mark.parametrize(
    ("group", "passes"),
    [("0180c2000000", True), ("0180c2000002", True), ("0180c200000e", True), ("0180c2000001", 0)],
    ids=["STP", "LACP", "LLDP", "pause"],
)
def test_wire_passes_link_local_frames_but_for_pause(
    wired: Bench, group: str, passes: bool
) -> None:
    kind = 0x88B5  # for experiments (IEEE 802)
    frame = bytes.fromhex(group) + bytes.fromhex("020000000001") + kind.to_bytes(2, "big")
    with (
        wired.socket_of("a", socket.AF_PACKET, socket.SOCK_RAW) as out,
        wired.socket_of("b", socket.AF_PACKET, socket.SOCK_RAW, socket.htons(kind)) as into,
    ):
        into.bind(("eth0", kind))
        into.settimeout(0.3)
        out.bind(("eth0", 0))
        out.send(frame + bytes(46))
        try:
            received = into.recv(2048)[:14] == frame
        except TimeoutError:
            received = False
    assert received == bool(passes)


def test_wire_with_one_end_down_has_no_carrier_at_the_other(wired: Bench) -> None:
    assert has_carrier(wired, "b", "eth0")
    wired.run_in("a", "ip link set eth0 down")
    wait_for(lambda: not has_carrier(wired, "b", "eth0"), "b sees it")
    wired.run_in("a", "ip link set eth0 up")
    wait_for(lambda: has_carrier(wired, "b", "eth0"), "b sees it")
    assert wired.pings("b", "10.0.0.1")


def test_wire_to_a_machine_that_is_off_has_no_carrier(wired: Bench) -> None:
    wired.ask("plug", machine="a", up=False)
    assert not has_carrier(wired, "b", "eth0")  # at once
    wired.ask("plug", machine="a", up=True)
    assert has_carrier(wired, "a", "eth0")
    assert has_carrier(wired, "b", "eth0")
    assert wired.pings("a", "10.0.0.2")


def test_wire_with_both_ends_down_comes_back_in_any_order(wired: Bench) -> None:
    for first, second in ("ab", "ba"):
        wired.ask("plug", machine="a", up=False)
        wired.ask("plug", machine="b", up=False)
        wired.ask("plug", machine=first, up=True)
        assert not has_carrier(wired, first, "eth0")
        wired.ask("plug", machine=second, up=True)
        assert has_carrier(wired, "a", "eth0")
        assert has_carrier(wired, "b", "eth0")
    # inside the machine at one end, outside at the other
    wired.ask("plug", machine="a", up=False)
    wired.run_in("b", "ip link set eth0 down")
    wired.ask("plug", machine="a", up=True)
    wait_for(lambda: not has_carrier(wired, "a", "eth0"), "a sees that b is down")
    wired.run_in("b", "ip link set eth0 up")
    wait_for(lambda: has_carrier(wired, "a", "eth0"), "a sees that b is up")
    assert wired.pings("a", "10.0.0.2")


def test_wire_whose_other_machine_is_replaced_works_again(wired: Bench) -> None:
    wired.ask("remove", machine="b")
    wait_for(lambda: not has_carrier(wired, "a", "eth0"), "a sees it")
    assert wired.machine("c", link("eth0", "wire", "10.0.0.2/30")) == {}
    wait_for(lambda: has_carrier(wired, "a", "eth0"), "a sees it")
    assert wired.pings("a", "10.0.0.2")


def test_wire_with_an_end_that_is_down_in_the_plan_has_no_carrier(bench: Bench) -> None:
    bench.networks(wire="point-to-point")
    bench.machine("a", link("eth0", "wire", "10.0.0.1/30", up=False))
    bench.machine("b", link("eth0", "wire", "10.0.0.2/30"))
    assert not has_carrier(bench, "b", "eth0")
    bench.run_in("a", "ip link set eth0 up")
    wait_for(lambda: has_carrier(bench, "b", "eth0"), "b sees it")
    assert bench.pings("b", "10.0.0.1")


def test_wire_whose_machine_is_replaced_at_once_works(wired: Bench) -> None:
    for number in range(5):
        wired.ask("plug", machine="b", up=False)
        wired.ask("remove", machine="b")
        assert wired.machine("b", link("eth0", "wire", "10.0.0.2/30")) == {}, number
        assert wired.pings("a", "10.0.0.2"), number


# macvlan


def test_macvlans_reach_each_other_and_the_bridge(bench: Bench) -> None:
    if reason := refused_here("macvlan"):
        assert reason in bench_refusal(bench, link("eth0", "lan", kind="macvlan"))
        return
    bench.networks(lan="bridged")
    bench.machines(
        {"name": "m1", "links": [link("eth0", "lan", "10.0.0.1/24", kind="macvlan")]},
        {"name": "m2", "links": [link("eth0", "lan", "10.0.0.2/24", kind="macvlan")]},
        {"name": "plain", "links": [link("eth0", "lan", "10.0.0.3/24", "fd00::3/64")]},
    )
    assert state(bench, "m1", "eth0")["linkinfo"]["info_data"]["mode"] == "bridge"
    assert bench.pings("m1", "10.0.0.2")
    assert bench.pings("m1", "10.0.0.3")
    assert bench.pings("plain", "10.0.0.2")
    assert len(re.findall(r"macvlan\.", bench.inside("ip -o link"))) == 2  # one pair


def test_macvlan_of_a_machine_that_is_off_does_not_answer(bench: Bench) -> None:
    if refused_here("macvlan"):
        pytest.skip("this kernel has no macvlan")
    bench.networks(lan="bridged")
    bench.machine(
        "m1",
        link("eth0", "lan", "10.0.0.1/24", "fd00::1/64", kind="macvlan"),
        routes=[{"destination": None, "via": "10.0.0.9", "interface": None, "metric": None}],
    )
    bench.machine("b", link("eth0", "lan", "10.0.0.3/24", "fd00::3/64"))
    bench.ask("stop", machine="m1")
    assert not bench.pings("b", "10.0.0.1")
    bench.ask("start", machine="m1")
    assert bench.pings("b", "10.0.0.1")
    assert bench.pings("b", "fd00::1")
    assert "default via 10.0.0.9" in bench.run_in("m1", "ip route")
    bench.ask("remove", machine="m1")


# tunnels


def test_vxlan_joins_machines_on_different_networks(bench: Bench) -> None:
    if reason := refused_here("vxlan"):
        assert reason in bench_refusal(bench, link("vx0", kind="vxlan", vni=7, over=[]))
        return
    bench.networks(left="bridged", right="bridged")
    # three ends, so that flooding to each remote matters; the router between is a machine, too
    bench.machine(
        "router",
        link("eth0", "left", "192.0.2.1/25"),
        link("eth1", "right", "192.0.2.129/25"),
        forward=True,
    )
    ends = {"a": "192.0.2.2", "b": "192.0.2.130", "c": "192.0.2.131"}
    for number, (name, local) in enumerate(ends.items(), 1):
        network = "left" if name == "a" else "right"
        assert not bench.machine(
            name,
            link("eth0", network, f"{local}/25"),
            link(
                "vx0",
                None,
                f"10.0.0.{number}/24",
                f"fd00::{number}/64",
                kind="vxlan",
                vni=4711,
                over=["eth0"],
                local=local,
                remotes=[other for other in ends.values() if other != local],
                mac=f"02:00:00:00:00:0{number}",
                mtu=1450,
            ),
            routes=[
                {
                    "destination": None,
                    "via": "192.0.2.1" if name == "a" else "192.0.2.129",
                    "interface": "eth0",
                    "metric": None,
                }
            ],
        )
    for own, others in (("a", "23"), ("b", "13"), ("c", "12")):
        for other in others:
            assert bench.pings(own, f"10.0.0.{other}"), (own, other)
    assert bench.pings("a", "fd00::3")
    assert bench.pings("a", "10.0.0.2", size_bytes=1450 - 28)
    assert not bench.pings("a", "10.0.0.2", size_bytes=1450 - 27)
    data = state(bench, "a", "vx0")["linkinfo"]["info_data"]
    assert (data["id"], data["port"], data["local"]) == (4711, 4789, "192.0.2.2")
    flooded = json.loads(bench.run_in("a", "bridge -j fdb show dev vx0"))
    zero = {entry["dst"] for entry in flooded if entry["mac"] == "00:00:00:00:00:00"}
    assert zero == {"192.0.2.130", "192.0.2.131"}


def test_vxlan_of_another_number_is_another_network(bench: Bench) -> None:
    if refused_here("vxlan"):
        pytest.skip("this kernel has no VXLAN")
    bench.networks(lan="bridged")
    for number, vni in ((1, 5), (2, 6)):
        bench.machine(
            f"m{number}",
            link("eth0", "lan", f"192.0.2.{number}/24"),
            link(
                "vx0",
                None,
                f"10.0.0.{number}/24",
                kind="vxlan",
                vni=vni,
                over=["eth0"],
                local=f"192.0.2.{number}",
                remotes=[f"192.0.2.{3 - number}"],
            ),
        )
    assert bench.pings("m1", "192.0.2.2")
    assert not bench.pings("m1", "10.0.0.2")


def bench_refusal(bench: Bench, *links: Link) -> str:
    """How the fabric refuses a machine with these links, which the kernel cannot make."""
    bench.networks(lan="bridged", other="bridged")
    try:
        failed = bench.machine("refused", *links)
    except FabricError as error:
        return str(error)
    return str(failed["refused"])


@pytest.mark.parametrize("six", [False, True], ids=["IPv4", "IPv6"])
def test_gre_joins_two_machines(bench: Bench, six: bool) -> None:
    ends = ("fd00:1::1", "fd00:1::2") if six else ("192.0.2.1", "192.0.2.2")

    def links(number: int) -> list[Link]:
        own, other = ends[number - 1], ends[2 - number]
        tunnel = link("tun0", None, f"10.0.0.{number}/30", kind="gre", over=["eth0"])
        under = link("eth0", "lan", f"{own}/64" if six else f"{own}/24")
        return [{**tunnel, "local": own, "remotes": [other]}, under]

    if reason := refused_here("gre6" if six else "gre"):
        assert reason in bench_refusal(bench, *links(1))
        return
    bench.networks(lan="bridged")
    for number in (1, 2):
        assert bench.machine(f"m{number}", *links(number)) == {}
    assert bench.pings("m1", "10.0.0.2")
    assert "gre" in state(bench, "m1", "tun0")["linkinfo"]["info_kind"]


def test_tunnel_over_nothing_is_refused(bench: Bench) -> None:
    failed = bench.machine("a", link("tun0", kind="vxlan", vni=3, over=["eth7"], local="192.0.2.1"))
    assert "interfaces that are never there: tun0 over eth7" in failed["a"]


# bonds and trunks


def _bond(number: int) -> Link:
    members = [{"interface": f"eth{each}", "port": f"m{number}-eth{each}"} for each in range(2)]
    mac = f"02:00:00:00:00:0{number}"
    return link("bond0", "lan", f"10.0.0.{number}/24", kind="bond", members=members, mac=mac)


def test_bond_survives_the_loss_of_a_member(bench: Bench) -> None:
    if reason := refused_here("bond"):
        assert reason in bench_refusal(bench, _bond(1))
        return
    bench.networks(lan="bridged")
    assert bench.machine("m1", _bond(1)) == {}
    assert bench.machine("m2", link("eth0", "lan", "10.0.0.2/24")) == {}
    assert bench.pings("m2", "10.0.0.1")
    shown = state(bench, "m1", "bond0")
    assert shown["address"] == "02:00:00:00:00:01"
    data = shown["linkinfo"]["info_data"]
    assert (data["mode"], data["miimon"]) == ("active-backup", 100)
    active = data["active_slave"]
    bench.inside(f"ip link set m1-{active} down")

    def has_changed() -> bool:
        data = state(bench, "m1", "bond0")["linkinfo"]["info_data"]
        return bool(data.get("active_slave") not in (None, active))

    wait_for(has_changed, "the other member is active")
    assert bench.pings("m1", "10.0.0.2")
    bench.ask("plug", machine="m1", up=False)
    assert not bench.pings("m2", "10.0.0.1")
    bench.ask("remove", machine="m1")
    assert "m1-eth" not in bench.inside("ip -o link")


def test_trunk_keeps_its_networks_apart(bench: Bench) -> None:
    trunk = link(
        "eth0",
        None,
        kind="trunk",
        vlans=[
            {"id": 5, "bridge": "br-lan", "port": "m1-5"},
            {"id": 4094, "bridge": "br-other", "port": "m1-4094"},
        ],
    )
    upper = [
        link("eth0.5", "lan", "10.0.0.1/24", "fd00::1/64", kind="vlan", over=["eth0"], vlan=5),
        link("last", "other", "10.0.4.1/24", kind="vlan", over=["eth0"], vlan=4094),
    ]
    if reason := refused_here("vlan"):
        assert reason in bench_refusal(bench, trunk, *upper)
        return
    bench.networks(lan="bridged", other="bridged")
    # sub-interfaces first: the order in the plan does not matter
    assert bench.machine("m1", *upper, trunk) == {}
    assert bench.machine("m2", link("eth0", "lan", "10.0.0.2/24", "fd00::2/64")) == {}
    assert bench.machine("m3", link("eth0", "other", "10.0.4.3/24", "10.0.0.3/24")) == {}
    assert bench.pings("m2", "10.0.0.1")
    assert bench.pings("m2", "fd00::1")
    assert bench.pings("m3", "10.0.4.1")
    assert not bench.pings("m2", "10.0.0.3")
    assert bench.pings("m2", "10.0.0.1", size_bytes=1500 - 28)
    resting = [{**upper[1], "interface": "late"}, {**trunk, "up": False, "vlans": []}]
    route = {"destination": None, "via": "10.0.0.9", "interface": "late", "metric": None}
    assert bench.machine("m4", *resting, routes=[route]) == {}
    assert "UP" not in state(bench, "m4", "late")["flags"]
    bench.run_in("m4", "ip link set eth0 up")
    assert "UP" in state(bench, "m4", "late")["flags"]
    bench.ask("plug", machine="m1", up=False)
    assert not bench.pings("m2", "10.0.0.1")
    bench.ask("plug", machine="m1", up=True)
    assert bench.pings("m2", "10.0.0.1")
    bench.ask("remove", machine="m1")
    assert "m1-" not in bench.inside("ip -o link")


# many, and routers


def test_hundred_machines_of_one_batch_answer(bench: Bench) -> None:
    bench.networks(lan="bridged")
    specs = [
        {"name": f"m{n}", "links": [link("eth0", "lan", f"10.0.0.{n}/24")]} for n in range(1, 101)
    ]
    assert bench.machines(*specs) == {}
    for number in (2, 50, 100):
        assert bench.pings("m1", f"10.0.0.{number}")


def test_forwarded_port_leads_to_the_machine_behind(bench: Bench) -> None:
    bench.networks(lan="bridged", wan="bridged")
    forwards = [
        {"interface": "eth1", "protocol": "tcp", "port": 80, "to": "10.0.0.2", "to_port": 8080}
    ]
    failed = bench.machine(
        "router",
        link("eth0", "lan", "10.0.0.1/24"),
        link("eth1", "wan", "192.0.2.1/24"),
        forward=True,
        forwards=forwards,
    )
    assert failed == {}
    bench.machine("server", link("eth0", "lan", "10.0.0.2/24", gateway="10.0.0.1"))
    bench.machine("client", link("eth0", "wan", "192.0.2.2/24"))
    with (
        bench.socket_of("server", socket.AF_INET, socket.SOCK_STREAM) as server,
        bench.socket_of("client", socket.AF_INET, socket.SOCK_STREAM) as client,
    ):
        server.bind(("10.0.0.2", 8080))
        server.listen()
        client.settimeout(5)
        client.connect(("192.0.2.1", 80))
        accepted, (peer, _) = server.accept()
        accepted.close()
    assert peer == "192.0.2.2"
