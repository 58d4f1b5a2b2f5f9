"""A whole ``pytest`` process: a router with NAT, two networks, three machines besides, one ping
across, teardown; on the ``netns`` and on the ``podman`` target.

Against: scripts that do the same, one of plain ``ip`` commands in a row, one of podman's own
command line, which starts and configures all containers at the same time. The echo is sent by
Python in the first (the host may have no ping), by the image's iputils-ping in the second.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from benchmarks.harness import Figure, in_turns, main, seconds
from benchmarks.layouts import IMAGE, REFERENCE, crowd, live
from benchmarks.sealed import podman, sealed

_CONFTEST = f"""
from pytest_carthage import Image, Layout, Machine, Network

image = Image.debian({IMAGE.suite!r}, packages={list(IMAGE.packages)!r})


class Branch(Layout):
    lan = Network("10.0.0.0/24")
    wan = Network("192.0.2.0/24")
    gw = Machine(
        image, links={{"lan0": lan.at(".1"), "wan0": wan.at(".1")}}, masquerade="wan0"
    )
    desk = Machine(image, links={{"eth0": lan.at(".10", gateway=".1")}})
    till = Machine(image, links={{"eth0": lan.at(".11", gateway=".1")}})
    web = Machine(image, links={{"eth0": wan.at(".20")}})


branch = Branch.fixture()
"""
_TEST = """
def test_desk_reaches_web(branch):
    assert branch.desk.ping("web") < 1
"""

#: ICMP echo to an address (RFC 792), as short as can be
_PING = """
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
s.settimeout(5)
s.connect((sys.argv[1], 0))
s.send(bytes.fromhex("0800f7fe00000001"))
while s.recv(99)[20] != 0:
    pass
"""
_NAT = (
    "add table ip nat; "
    "add chain ip nat out { type nat hook postrouting priority srcnat; }; "
    "add rule ip nat out oifname {wan} masquerade"
)
_HOSTS = {"desk": ("lan", "10.0.0.10"), "till": ("lan", "10.0.0.11"), "web": ("wan", "192.0.2.20")}


@contextmanager
def suite() -> Iterator[Callable[[str], float]]:
    """A folder with the suite; gives what runs it on a target, and returns the seconds."""
    with tempfile.TemporaryDirectory(prefix="carthage-benchmark-") as name:
        folder = Path(name)
        (folder / "conftest.py").write_text(_CONFTEST)
        (folder / "test_branch.py").write_text(_TEST)
        command = [sys.executable, "-m", "pytest", "--carthage-strict"]

        def run(target: str) -> float:
            def once() -> None:
                argv = [*command, f"--carthage-target={target}"]
                env = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST")}
                done = subprocess.run(argv, cwd=folder, env=env, capture_output=True, text=True)
                if done.returncode:
                    raise RuntimeError(done.stdout + done.stderr)

            return seconds(once)

        yield run


def ip_script() -> str:
    """Plain ``ip`` commands."""
    lines = []
    for network in ("lan", "wan"):
        lines += [f"ip link add {network} type bridge", f"ip link set {network} up"]

    def link(machine: str, interface: str, network: str, address: str) -> None:
        port = f"{machine}-{network}"
        lines.extend(
            (
                f"ip link add {port} type veth peer name {interface} netns {machine}",
                f"ip link set {port} master {network} up",
                f"ip -n {machine} address add {address}/24 dev {interface}",
                f"ip -n {machine} link set {interface} up",
                f"ip -n {machine} link set lo up",
            )
        )

    for machine in ("gw", *_HOSTS):
        lines.append(f"ip netns add {machine}")
    link("gw", "lan0", "lan", "10.0.0.1")
    link("gw", "wan0", "wan", "192.0.2.1")
    for machine, (network, address) in _HOSTS.items():
        link(machine, "eth0", network, address)
        if network == "lan":
            lines.append(f"ip -n {machine} route add default via 10.0.0.1")
    nat = _NAT.replace("{wan}", "wan0")
    lines += [
        "ip netns exec gw sysctl -qw net.ipv4.ip_forward=1",
        f"ip netns exec gw nft {shlex.quote(nat)}",
        f"ip netns exec desk {sys.executable} -ISc {shlex.quote(_PING)} 192.0.2.20",
    ]
    lines += [f"ip netns delete {machine}" for machine in ("gw", *_HOSTS)]
    lines += [f"ip link delete {network}" for network in ("lan", "wan")]
    return "\n".join(lines)


def with_ip() -> float:
    """Seconds that the script of ``ip`` takes."""
    with sealed() as inside:
        return inside.seconds(["sh", "-ec", ip_script()])


def podman_script(image: str) -> str:
    """Podman's own command line; ``$run`` is ``podman run`` with what this host wants."""
    begin = "--cap-add=NET_ADMIN,NET_RAW"
    end = f"{image} sleep infinity"
    # an option of a network's name and address each; podman's own bridge takes .254
    lines = [
        "podman network create --internal --subnet 10.0.0.0/24 --gateway 10.0.0.254 lan",
        "podman network create --internal --subnet 192.0.2.0/24 --gateway 192.0.2.254 wan",
        f"$run -d --name gw {begin} --sysctl net.ipv4.ip_forward=1 --network lan:ip=10.0.0.1 "
        f"--network wan:ip=192.0.2.1,interface_name=wan0 {end} &",
    ]
    lines += [
        f"$run -d --name {machine} {begin} --network {network}:ip={address} {end} &"
        for machine, (network, address) in _HOSTS.items()
    ]
    nat = _NAT.replace("{wan}", "wan0")
    lines += [
        "wait",
        f"podman exec gw nft {shlex.quote(nat)} &",
        "podman exec till ip route add default via 10.0.0.1 &",
        "podman exec desk ip route add default via 10.0.0.1 &",
        "wait",
        "podman exec desk ping -c 1 -W 5 192.0.2.20",
        "podman rm --force --time 0 gw " + " ".join(_HOSTS),
        "podman network rm lan wan",
    ]
    return "\n".join(lines)


def with_podman() -> float:
    """Seconds that the script of podman takes."""
    with podman() as plain:
        return plain.script(podman_script(REFERENCE))


def take(rounds: int) -> Sequence[Figure]:
    """Take the figures."""
    with live(crowd(1, image=IMAGE)):
        pass  # the image is there from now on
    what = "pytest: NAT router, 2 networks, 3 machines, a ping, teardown"
    with suite() as run:
        netns, ip = in_turns(rounds, partial(run, "netns"), with_ip)
        containers, command_line = in_turns(rounds, partial(run, "podman"), with_podman)
    return [
        Figure(
            what=f"{what}; netns",
            unit="s",
            ours=netns,
            other=ip,
            versus="ip commands",
            at_most=1.0,
        ),
        Figure(
            what=f"{what}; podman",
            unit="s",
            ours=containers,
            other=command_line,
            versus="podman commands",
            at_most=2.1,
        ),
    ]


if __name__ == "__main__":
    main(take)
