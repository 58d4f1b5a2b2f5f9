"""The fabric's part in faults: links that lose, delay or are pulled, cuts, frozen machines.

Everything happens at the fabric's end of a cable, where the machine does not see it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from pytest_carthage.fabric import links, memory, netlink, processes, qdisc
from pytest_carthage.fabric import syscalls as sys_
from pytest_carthage.fabric.cable import Cable, Fields, nft, splice_names


def _listed(values: Iterable[str], *, quoted: bool = False) -> str:
    return ", ".join(f'"{value}"' if quoted else value for value in values)


# cuts


def cut_rules(name: str, groups: Sequence[Mapping[str, Any]]) -> str:
    """The ruleset that cuts machines off from each other.

    Each group has ``ports`` (of the fabric), ``v4`` and ``v6`` (addresses of its machines) and
    ``shared``: ports by address, of other machines which have the same one elsewhere.

    Frames are dropped where they leave a machine and where they reach one: in between, on the
    networks of routers, an address may be somebody else's.
    """
    rules = []
    for group in groups:
        others = [other for other in groups if other is not group]
        ours = _listed(group["ports"], quoted=True)
        theirs = _listed((port for other in others for port in other["ports"]), quoted=True)
        if not ours:
            continue
        if theirs:
            rules.append(f"iifname {{ {ours} }} oifname {{ {theirs} }} drop")
        for family, key in (("ip", "v4"), ("ip6", "v6")):
            addresses = list(dict.fromkeys(a for other in others for a in other[key]))
            for address in addresses:
                shared = [p for other in others for p in other["shared"].get(address, ())]
                if shared:  # its own neighbour of this address is not who is meant
                    near = _listed(shared, quoted=True)
                    for out, back, end in (("iif", "oif", "daddr"), ("oif", "iif", "saddr")):
                        rules.append(
                            f"{out}name {{ {ours} }} {back}name {{ {near} }} "
                            f"{family} {end} {address} return"
                        )
            if addresses:
                listed = _listed(addresses)
                rules += [
                    f"iifname {{ {ours} }} {family} daddr {{ {listed} }} drop",
                    f"oifname {{ {ours} }} {family} saddr {{ {listed} }} drop",
                ]
    lines = "\n".join(rules)
    return (
        f"table bridge {name} {{\nchain forward {{ type filter hook forward priority 0; "
        f"policy accept;\n{lines}\n}}\n}}\n"
    )


class Disturbances:
    """What is in force in one fabric."""

    def __init__(
        self,
        namespace_of: Callable[[str], tuple[int, int | None]],
        set_ports: Callable[..., None],
    ) -> None:
        #: machine to (descriptor of its network namespace, process id of its agent)
        self._namespace_of = namespace_of
        #: takes ports in or out of service, and other ends of wires with them
        self._switch = set_ports
        self._own_network = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        self._cables: dict[str, Cable] = {}
        #: port to the numbers of those who hold it down
        self._down: dict[str, set[int]] = {}
        self._heal: dict[int, Callable[[], None]] = {}
        self._frozen: dict[str, int] = {}
        self._last = 0

    def begin(self, message: Mapping[str, Any]) -> Fields:
        """Begin what the message asks for; the answer has its ``number``."""
        begin = {
            "impair": self._impair,
            "down": self._pull,
            "partition": self._partition,
            "freeze": self._freeze,
            "crash": self._crash,
        }[message["kind"]]
        self._last += 1
        number = self._last
        heal, fields = begin(number, message)
        if heal is not None:
            self._heal[number] = heal
        return {"number": number, **fields}

    def heal(self, number: int) -> None:
        """End one; one that is gone already is not an error."""
        heal = self._heal.pop(number, None)
        if heal is not None:
            heal()

    def is_down(self, port: str) -> bool:
        """Whether a port is held down."""
        return bool(self._down.get(port))

    def is_frozen(self, machine: str) -> bool:
        """Whether a machine is frozen."""
        return machine in self._frozen

    def forget(self, spec: Mapping[str, Any]) -> None:
        """Forget a machine that is removed, and its ports."""
        self._frozen.pop(spec["name"], None)
        ports = [port for link in spec["links"] for port in links.ports(link)]
        ports += [vlan["port"] for link in spec["links"] for vlan in link.get("vlans") or ()]
        for port in ports:
            self._down.pop(port, None)
            cable = self._cables.pop(port, None)
            if cable is not None:
                cable.to = cable.from_ = None
                cable.clear()

    # links

    def _impair(self, number: int, message: Mapping[str, Any]) -> tuple[Callable[[], None], Fields]:
        wanted: dict[str, Fields] = message["ways"]
        cables: list[Cable] = []

        def change(values: Mapping[str, Fields | None]) -> None:
            for cable in cables:
                if "to" in values:
                    cable.to = values["to"]
                if "from" in values:
                    cable.from_ = values["from"]
                if self._cables.get(cable.port) is cable:
                    cable.treat()

        def heal() -> None:
            change(dict.fromkeys(wanted))
            for cable in cables:
                if not (cable.to or cable.from_):
                    self._cables.pop(cable.port, None)

        for each in message["cables"]:
            cable = self._cables.get(each["port"])
            if cable is None:
                cable = self._cables[each["port"]] = Cable(
                    each["port"], each["bridge"], is_wire=bool(each.get("wire"))
                )
            cables.append(cable)
        try:
            change(wanted)
        except OSError:
            heal()
            raise
        return heal, {"mechanism": cables[0].mechanism if cables else ""}

    def _set_ports(self, ports: Iterable[str], *, up: bool) -> None:
        there = []
        for port in ports:
            try:
                netlink.index_of(port)
            except OSError:
                continue  # it went with its machine
            there.append(port)
        self._switch(there, up=up)
        if up:
            netlink.wait_until_up(there)

    def _pull(self, number: int, message: Mapping[str, Any]) -> tuple[Callable[[], None], Fields]:
        ports = list(message["ports"])
        for port in ports:
            self._down.setdefault(port, set()).add(number)

        def heal() -> None:
            free = []
            for port in ports:
                holders = self._down.get(port, set())
                if number in holders:
                    holders.discard(number)
                    if not holders:
                        del self._down[port]
                        free.append(port)
            try:
                _, pid = self._namespace_of(message["machine"])
            except LookupError:
                return  # it was removed
            if pid is not None:  # else they are put in service when it starts
                self._set_ports(free, up=True)
                self._meet_again(message["neighbours"])

        try:
            self._set_ports(ports, up=False)
        except OSError:
            heal()
            raise
        return heal, {}

    # cuts

    def _addresses(self, machine: str) -> list[str]:
        """Addresses that a machine has now, but those that are its own or one link's."""
        try:
            rows = self._inside(machine, netlink.addresses)
        except (LookupError, OSError):
            return []
        found = [row["address"] for row in rows if row["interface"] != "lo"]
        plain = [address.partition("/")[0] for address in found if address]
        return [address for address in plain if not address.startswith("fe80:")]

    def _partition(
        self, number: int, message: Mapping[str, Any]
    ) -> tuple[Callable[[], None], Fields]:
        groups = []
        for group in message["groups"]:
            known = [*group["addresses"]]
            for machine in group["machines"]:
                known += self._addresses(machine)
            ports: list[str] = []
            for port in group["ports"]:
                ports += (port, splice_names(port)[1])
            groups.append(
                {
                    "ports": ports,
                    "v4": list(dict.fromkeys(a for a in known if ":" not in a)),
                    "v6": list(dict.fromkeys(a for a in known if ":" in a)),
                    "shared": group.get("shared", {}),
                }
            )
        table = f"cgcut{number}"
        nft(cut_rules(table, groups))

        def heal() -> None:
            nft(f"delete table bridge {table}\n")
            self._meet_again(message["neighbours"])

        return heal, {}

    def _meet_again(self, neighbours: Mapping[str, Any]) -> None:
        """Spare machines the second until the kernel asks again for those whom it now reaches.

        :param neighbours: ``hardware``: network to addresses to hardware addresses;
            ``machines``: name to networks.
        """
        for machine, networks in neighbours["machines"].items():
            known = {k: v for name in networks for k, v in neighbours["hardware"][name].items()}
            try:
                self._inside(machine, partial(memory.meet_again, known))
            except (LookupError, OSError):
                continue  # it is off, or was removed

    def _inside(self, machine: str, work: Callable[[], Any]) -> Any:
        """Do something in the network namespace of a machine."""
        namespace, _ = self._namespace_of(machine)
        sys_.setns(namespace, sys_.CLONE_NEWNET)
        try:
            return work()
        finally:
            sys_.setns(self._own_network, sys_.CLONE_NEWNET)

    # machines

    def _agent(self, machine: str) -> int:
        _, pid = self._namespace_of(machine)
        if pid is None:
            raise ValueError(f"machine {machine!r} is stopped")
        return pid

    def _freeze(self, number: int, message: Mapping[str, Any]) -> tuple[Callable[[], None], Fields]:
        machine = message["machine"]
        if machine in self._frozen:
            raise ValueError(f"machine {machine!r} is frozen already")
        stopped = processes.freeze(self._agent(machine))
        self._frozen[machine] = number

        def heal() -> None:
            if self._frozen.get(machine) == number:
                del self._frozen[machine]
                processes.thaw(stopped)

        return heal, {"processes": len(stopped)}

    def _crash(self, number: int, message: Mapping[str, Any]) -> tuple[None, Fields]:
        """End everything at once; to start again is the provider's business."""
        machine = message["machine"]
        # first: the kernel says goodbye for those whom it kills
        self._set_ports(message["ports"], up=False)
        processes.kill_all(self._agent(machine))
        for forget in (memory.forget_connections, memory.forget_neighbours):
            try:
                self._inside(machine, forget)
            except OSError:
                continue  # a kernel without it
        self._frozen.pop(machine, None)
        return None, {}


# what can be done here


def main(names: Sequence[str]) -> None:
    """Try faults in namespaces of their own, and print what is missing for each as JSON.

    :param names: of loss, delay, jitter, rate, duplicate, corrupt, down, partition, freeze, crash.
    """
    from pytest_carthage.fabric.init import map_user

    missing: dict[str, str | None] = dict.fromkeys(names)
    # whatever can make machines can do the others
    for name in [name for name in names if name not in ("down", "freeze", "crash")]:
        uid, gid = os.getuid(), os.getgid()
        try:
            try:
                sys_.unshare(sys_.CLONE_NEWNET)
            except PermissionError:
                sys_.unshare(sys_.CLONE_NEWNET | sys_.CLONE_NEWUSER)
                map_user(uid, gid)
            _attempt(name)
        except OSError as error:
            missing[name] = error.strerror or str(error)
    print(json.dumps(missing))


def _attempt(name: str) -> None:
    if name == "partition":
        group = {"ports": ["cgp0"], "v4": ["192.0.2.1"], "v6": ["2001:db8::1"], "shared": {}}
        other = {"ports": ["cgp1"], "v4": ["192.0.2.2"], "v6": ["2001:db8::2"], "shared": {}}
        nft(cut_rules("cgcut", [group, other]))
        return
    batch = qdisc.Batch()
    batch.bridge("cgb")
    batch.splice("cgp0", "cgp1", mtu=1500)
    batch.commit()
    batch = qdisc.Batch()
    batch.up("cgp0")
    batch.commit()
    cable = Cable("cgp0", "cgb")
    cable.to = cable.from_ = {
        {"delay": "delay_s", "jitter": "jitter_s", "rate": "rate_bps"}.get(name, name): 0.5
        if name != "rate"
        else 1e6
    }
    cable.treat()
    cable.clear()
    try:
        os.waitpid(-1, 0)  # the relay
    except ChildProcessError:
        pass
