"""What the kernel of CI's own hosts lacks, made by this product and used: ``python -m ... core``.

It imports no pytest: emulated processors take longer to start that than for all of this. Prints a
line for each thing that works, and fails with the first that does not.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from pytest_carthage import Layout, Machine, MachineHandle, Network
from pytest_carthage.live.environment import AsyncLayout
from pytest_carthage.model.network import trunk
from pytest_carthage.planning import make_plan
from pytest_carthage.portal import Portal
from pytest_carthage.providers.netns import NetnsProvider
from pytest_carthage.providing import Providers
from pytest_carthage.state.run import Run, new_name

__all__ = ["Kinds", "main"]


class Kinds(Layout):
    """A link of each kind."""

    lan = Network("10.0.0.0/24", "fd00:1::/64", vlan_id=10)
    dmz = Network("10.0.1.0/24", vlan_id=4094)
    mgmt = Network("10.0.2.0/30", kind="gre")
    far = Network("10.0.3.0/24", kind="vxlan", vni=42, mtu=1400)
    wire = Network("10.0.4.0/30", kind="point-to-point")

    trunked = Machine(
        links={
            "eth0": trunk(lan, dmz),
            "lan0": lan.at(".1", "::1", over="eth0"),
            "dmz0": dmz.at(".1", over="eth0"),
        }
    )
    bonded = Machine(
        links={
            "bond0": lan.at(".2", "::2", bond=("eth0", "eth1")),
            "tun0": mgmt.at(".1", over="bond0"),
            "vx0": far.at(".1", over="bond0"),
            "wire0": wire.at(".1"),
        }
    )
    plain = Machine(
        links={
            "eth0": lan.at(".3", "::3"),
            "tun0": mgmt.at(".2", over="eth0"),
            "vx0": far.at(".2", over="eth0"),
            "wire0": wire.at(".2"),
        }
    )
    virtual = Machine(links={"eth0": lan.at(".4", kind="macvlan")})
    behind = Machine(links={"eth0": dmz.at(".5")})


#: who reaches whom
_ANSWERS = [
    ("802.1Q", "trunked", "10.0.0.3"),
    ("802.1Q, another VLAN", "trunked", "10.0.1.5"),
    ("802.1Q, IPv6", "plain", "fd00:1::1"),
    ("bond", "plain", "10.0.0.2"),
    ("bond, IPv6", "trunked", "fd00:1::2"),
    ("GRE", "plain", "10.0.2.1"),
    ("VXLAN", "plain", "10.0.3.1"),
    ("macvlan", "virtual", "10.0.0.3"),
]
_VRF = """set -e
ip link add red type vrf table 101
ip link set red up
ip link set dmz0 master red
"""
_VLANS = """set -e
ip link add br0 type bridge vlan_filtering 1 vlan_default_pvid 0
ip link set br0 up
# a port of the bridge, and what is plugged in there
for number in 1 2 3; do
    ip link add port$number type veth peer name end$number
    ip link set port$number up master br0
    ip link add vrf$number type vrf table 20$number
    ip link set vrf$number up
    ip link set end$number up master vrf$number
    ip address add 10.9.9.$number/24 dev end$number
done
bridge vlan add dev port1 vid 10 pvid untagged
bridge vlan add dev port2 vid 10 pvid untagged
bridge vlan add dev port3 vid 20 pvid untagged
"""
_WIREGUARD = """set -e
ip link add wg0 type wireguard
ip address add 10.9.0.{number}/24 dev wg0
umask 077
wg genkey > /tmp/wg{number}.key
wg set wg0 listen-port 51820 private-key /tmp/wg{number}.key
ip link set wg0 up
"""


def _say(began: float, text: str) -> None:
    print(f"{time.monotonic() - began:6.1f} s  {text}", flush=True)


def _reaches(machine: MachineHandle, *arguments: str) -> None:
    """See an echo come back, as ping(8) does."""
    for _ in range(20):
        done = machine.run(["ping", "-c1", "-W1", *arguments], check=False)
        if done.ok:
            return
        time.sleep(0.1)
    raise AssertionError(f"{machine.name}: ping {' '.join(arguments)}: {done.stdout}{done.stderr}")


def _keeps_from(machine: MachineHandle, *arguments: str) -> None:
    done = machine.run(["ping", "-c2", "-W1", *arguments], check=False)
    assert not done.ok, f"{machine.name}: {' '.join(arguments)} answers"


def check(layout: Layout) -> Iterator[str]:
    """Use all of it; yields what has been seen to work."""
    for what, name, address in _ANSWERS:
        _reaches(layout[name], address)
        yield f"{what}: {name} reaches {address}"
    bonded, plain, trunked = layout["bonded"], layout["plain"], layout["trunked"]
    with bonded.links["bond0"].impair(delay_ms=100) as fault:
        assert fault.detail["by"] == "netem", fault.detail
        assert bonded.ping("10.0.0.3", timeout_s=30) >= 0.2
    yield "netem: delays both ways"
    trunked.run(_VRF)
    _reaches(trunked, "-Ired", "10.0.1.5")
    _keeps_from(trunked, "10.0.1.5")
    yield "VRF: has its own way to a network"
    plain.run(_VLANS)
    _reaches(plain, "-Ivrf1", "10.9.9.2")
    _keeps_from(plain, "-Ivrf1", "10.9.9.3")
    yield "VLAN filtering: a bridge keeps VLANs apart"
    ends = {1: bonded, 2: plain}
    for number, machine in ends.items():
        machine.run(_WIREGUARD.format(number=number))
    keys = {
        number: machine.run("wg show wg0 public-key").stdout for number, machine in ends.items()
    }
    for number, machine in ends.items():
        other = 3 - number
        machine.run(
            f"wg set wg0 peer {keys[other].strip()} endpoint 10.0.4.{other}:51820"
            f" allowed-ips 10.9.0.{other}/32"
        )
    _reaches(bonded, "10.9.0.2")
    yield "WireGuard: joins two machines"


def main() -> None:
    """Build the layout, check it, and take it away."""
    began = time.monotonic()
    providers = Providers({"netns": NetnsProvider})
    plan = make_plan(Kinds, targets=providers.traits)
    with contextlib.closing(Portal()) as portal:

        async def build() -> tuple[Run, AsyncLayout]:
            run = await Run.join(new_name())
            name = f"{run.name}-kinds"
            return run, await AsyncLayout.build(
                plan, name=name, run=run, providers=providers, portal=portal
            )

        async def leave(run: Run, live: AsyncLayout) -> None:
            await live.close()
            run.close()

        run, live = portal.call(build)
        _say(began, f"built: {', '.join(plan.machines)}")
        try:
            for seen in check(Kinds(live)):
                _say(began, seen)
        finally:
            portal.call(leave, run, live)
    _say(began, "taken away")


if __name__ == "__main__":
    main()
