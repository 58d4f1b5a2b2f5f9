"""What machines make of their kernel by themselves: VRFs, bridges that know VLANs, WireGuard.

Kernels without them are few, but tests run on some: ``tox -e stock-kernel`` is for those.
"""

from __future__ import annotations

import shutil

import pytest

from pytest_carthage import Layout, Machine, Network
from pytest_carthage.live.machines.machine import MachineHandle
from tests.live.conftest import Build

pytestmark = pytest.mark.real


class Edge(Layout):
    """A router between two customers."""

    red = Network("10.0.1.0/24", "fd00:1::/64")
    blue = Network("10.0.2.0/24", "fd00:2::/64")
    edge = Machine(links={"red0": red.at(".1", "::1"), "blue0": blue.at(".1", "::1")}, forward=True)
    a = Machine(links={"eth0": red.at(".2", "::2", gateway=".1")})
    b = Machine(links={"eth0": blue.at(".2", "::2", gateway=".1")})


class Switched(Layout):
    """A machine that is a switch, and one at each of its ports."""

    one = Network("10.0.1.0/30", kind="point-to-point")
    two = Network("10.0.2.0/30", kind="point-to-point")
    three = Network("10.0.3.0/30", kind="point-to-point")
    switch = Machine(links={"port1": one.at(".2"), "port2": two.at(".2"), "port3": three.at(".2")})
    a = Machine(links={"eth0": one.at(".1")})
    b = Machine(links={"eth0": two.at(".1")})
    c = Machine(links={"eth0": three.at(".1")})


class Tunnelled(Layout):
    """Two machines that do not trust the network between them."""

    wan = Network("192.0.2.0/24")
    a = Machine(links={"eth0": wan.at(".1")})
    b = Machine(links={"eth0": wan.at(".2")})


def make(machine: MachineHandle, *lines: str) -> None:
    """Run the first line, which says whether this kernel can; then the others."""
    done = machine.run(lines[0], check=False)
    if not done.ok:
        assert "nknown device type" in done.stderr or "not supported" in done.stderr, done
        pytest.skip(f"this kernel: {done.stderr.strip()}")
    machine.run("set -e\n" + "\n".join(lines[1:]))


def reaches(machine: MachineHandle, *arguments: str) -> bool:
    """Whether an echo comes back within some seconds."""
    until = 'end=$(($(date +%s) + 8)); until ping -c1 -W1 "$@"; do test $(date +%s) -lt $end; done'
    return machine.run(["sh", "-ec", until, "sh", *arguments], check=False).ok


def test_vrfs_of_a_router_keep_its_networks_apart(build: Build) -> None:
    live = build(Edge)
    edge, a = live["edge"], live["a"]
    assert reaches(a, "10.0.2.2")
    make(
        edge,
        "ip link add red type vrf table 101",
        "ip link add blue type vrf table 102",
        "ip link set red up; ip link set red0 master red",
        "ip link set blue up; ip link set blue0 master blue",
    )
    assert reaches(edge, "-Ired", "10.0.1.2")
    assert reaches(edge, "-Iblue", "10.0.2.2")
    assert reaches(a, "10.0.1.1")
    assert not a.run("ping -c2 -W1 10.0.2.2", check=False).ok
    masters = {each.name: each.master for each in edge.network.interfaces()}
    assert (masters["red0"], masters["blue0"]) == ("red", "blue")
    kept = {str(route.destination) for route in edge.network.routes(table=102)}
    assert "10.0.2.0/24" in kept
    assert "10.0.1.0/24" not in kept
    # what leads from one to the other says so
    edge.run(
        "ip route add 10.0.2.0/24 dev blue0 vrf red; ip route add 10.0.1.0/24 dev red0 vrf blue"
    )
    assert reaches(a, "10.0.2.2")


def test_bridge_of_a_machine_keeps_vlans_apart(build: Build) -> None:
    live = build(Switched)
    a, b, c = live["a"], live["b"], live["c"]
    for number, machine in enumerate((a, b, c), 1):
        machine.run(f"ip address add 10.0.0.{number}/24 dev eth0")
    make(
        live["switch"],
        "ip link add br0 type bridge vlan_filtering 1 vlan_default_pvid 0",
        "for port in port1 port2 port3; do ip link set $port up master br0; done",
        "ip link set br0 up",
        "bridge vlan add dev port1 vid 10 pvid untagged",
        "bridge vlan add dev port2 vid 10 pvid untagged",
        "bridge vlan add dev port3 vid 20 pvid untagged",
    )
    assert reaches(a, "10.0.0.2")
    assert not a.run("ping -c2 -W1 10.0.0.3", check=False).ok
    live["switch"].run("bridge vlan add dev port3 vid 10 pvid untagged")
    assert reaches(c, "10.0.0.1")
    # a frame with a tag is for who has that VLAN tagged
    live["switch"].run("bridge vlan add dev port1 vid 30; bridge vlan add dev port2 vid 30")
    for machine, address in ((a, "10.0.30.1/24"), (b, "10.0.30.2/24")):
        make(
            machine,
            "ip link add link eth0 name eth0.30 type vlan id 30",
            f"ip address add {address} dev eth0.30; ip link set eth0.30 up",
        )
    assert reaches(a, "10.0.30.2")


def test_wireguard_joins_two_machines(build: Build) -> None:
    if shutil.which("wg") is None:
        pytest.skip("needs wg, which Debian's wireguard-tools has")
    live = build(Tunnelled)
    a, b = live["a"], live["b"]
    keys = {}
    for machine, address in ((a, "10.9.0.1/24"), (b, "10.9.0.2/24")):
        make(
            machine,
            "ip link add wg0 type wireguard",
            f"ip address add {address} dev wg0",
            "umask 077; wg genkey > /tmp/wg0.key",
            "wg set wg0 listen-port 51820 private-key /tmp/wg0.key",
            "ip link set wg0 up",
        )
        keys[machine.name] = machine.run("wg show wg0 public-key").stdout.strip()
    a.run(f"wg set wg0 peer {keys['b']} endpoint 192.0.2.2:51820 allowed-ips 10.9.0.2/32")
    b.run(f"wg set wg0 peer {keys['a']} endpoint 192.0.2.1:51820 allowed-ips 10.9.0.1/32")
    wire = b.links["eth0"]
    with wire.capture("udp port 51820") as sealed, wire.capture("icmp") as plain:
        assert reaches(a, "10.9.0.2")
    assert len(sealed) >= 4, sealed  # a handshake, an echo and its reply
    assert len(plain) == 0, plain
    assert b.run("wg show wg0 latest-handshakes").stdout.split()[1] != "0"
