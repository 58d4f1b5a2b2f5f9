"""The fabric's part in faults: links that lose, delay or are pulled, cuts, frozen machines.

Everything happens at the fabric's end of a cable, where the machine does not see it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pytest_carthage.fabric import memory, nft, processes, qdisc
from pytest_carthage.fabric import syscalls as sys_
from pytest_carthage.fabric.cable import Cable, Fields
from pytest_carthage.fabric.cuts import Cuts, cut_rules
from pytest_carthage.fabric.fault import Fault, Origin
from pytest_carthage.fabric.linkfaults import LinkFaults
from pytest_carthage.fabric.namespaces import map_user
from pytest_carthage.fabric.neighbours import there
from pytest_carthage.fabric.wire.steps import Steps, finish

if TYPE_CHECKING:
    from pytest_carthage.fabric.namespaces import Home
    from pytest_carthage.fabric.pairs import Pairs
    from pytest_carthage.fabric.population import Population


class Disturbances:
    """What is in force in one fabric."""

    def __init__(self, population: Population, pairs: Pairs, home: Home) -> None:
        self._population = population
        self._pairs = pairs
        self._links = LinkFaults(population, pairs, home)
        self._cuts = Cuts(population, home)
        self._faults: dict[int, Fault] = {}
        self._beginning: set[Fault] = set()
        self._frozen: dict[str, int] = {}
        self._home = home
        self._last = 0

    # beginning and end

    def begin(self, message: Mapping[str, Any], origin: Origin) -> Steps[Fields]:
        """Begin what the message asks for; the answer has its ``number``.

        :param origin: who asked; see :meth:`unwanted`.
        """
        begin = {
            "impair": self._links.impair,
            "down": self._links.pull,
            "partition": self._cuts.partition,
            "freeze": self._freeze,
            "crash": self._crash,
        }[message["kind"]]
        self._last += 1
        fault = Fault(self._last, message["kind"], origin)
        self._beginning.add(fault)
        try:
            if "machine" in message:
                fields = yield from self._population.in_turn(
                    message["machine"], lambda machine: begin(fault, message)
                )
            else:
                fields = yield from begin(fault, message)
            if fault.heal is not None:
                self._faults[fault.number] = fault
        finally:
            self._beginning.discard(fault)
        names = {machine.name for machine in self._population}
        for name in fault.machines - names:  # it was removed meanwhile
            yield from self.forget(name)
        if fault.is_unwanted:
            yield from self.heal(fault.number)
        return {"number": fault.number, **fields}

    def heal(self, number: int) -> Steps[None]:
        """End one; one that is gone already is not an error. What fails can be tried again."""
        fault = self._faults.get(number)
        if fault is not None:
            yield from fault.turn.hold(self._end(fault))

    def _end(self, fault: Fault) -> Steps[None]:
        if fault.number in self._faults and fault.heal is not None:
            yield from fault.heal()
            del self._faults[fault.number]

    def unwanted(self, origin: Origin) -> list[int]:
        """Who asked for a fault does not wait for it any more.

        Returns the numbers of faults that are to be healed; one that is about to begin ends by
        itself.
        """
        for fault in self._beginning:
            fault.is_unwanted = fault.is_unwanted or fault.origin == origin
        return [fault.number for fault in self._faults.values() if fault.origin == origin]

    def forget(self, name: str) -> Steps[None]:
        """End what a machine that is about to be removed has of faults: none outlives it."""
        for fault in list(self._faults.values()):
            if name in fault.machines:
                yield from fault.turn.hold(self._without(fault, name))

    def _without(self, fault: Fault, name: str) -> Steps[None]:
        if fault.number not in self._faults:
            return
        if fault.leave is not None and len(fault.machines) > 1:
            yield from fault.leave(name)
            fault.machines.discard(name)
        else:
            yield from self._end(fault)

    @property
    def all(self) -> list[Fields]:
        """What is in force: number, kind, machines."""
        return [
            {"number": fault.number, "kind": fault.kind, "machines": sorted(fault.machines)}
            for fault in self._faults.values()
        ]

    def is_down(self, port: str) -> bool:
        """Whether a port is held down."""
        return self._links.is_down(port)

    def is_frozen(self, machine: str) -> bool:
        """Whether a machine is frozen."""
        return machine in self._frozen

    # machines

    def _agent(self, name: str) -> Steps[int]:
        """Process id of a machine's agent, which is started where it sleeps."""
        machine = self._population.find(name)
        yield from self._population.wake(machine)
        if machine.pid is None:
            raise ValueError(f"machine {name!r} is stopped")
        return machine.pid

    def _freeze(self, fault: Fault, message: Mapping[str, Any]) -> Steps[Fields]:
        machine = message["machine"]
        if machine in self._frozen:
            raise ValueError(f"machine {machine!r} is frozen already")
        agent = yield from self._agent(machine)
        stopped = yield from processes.freeze(agent)
        self._frozen[machine] = fault.number
        fault.machines.add(machine)

        def heal() -> Steps[None]:
            yield from ()
            if self._frozen.get(machine) == fault.number:
                del self._frozen[machine]
                processes.thaw(stopped)

        fault.heal = heal
        return {"processes": len(stopped)}

    def _crash(self, fault: Fault, message: Mapping[str, Any]) -> Steps[Fields]:
        """End everything at once; to start again is the provider's business."""
        machine = message["machine"]
        pid = yield from self._agent(machine)
        self._population.find(machine).is_expected_to_end = True
        # first: the kernel says goodbye for those whom it kills
        self._pairs.set_ports(there(message["ports"]), up=False)
        yield from processes.kill_all(pid)
        for forget in (memory.forget_connections, memory.forget_neighbours):
            try:
                with self._home.visit(self._population.find(machine).place.namespace):
                    forget()
            except OSError:
                continue  # a kernel without it
        self._frozen.pop(machine, None)
        return {}


# what can be done here


def main(names: Sequence[str]) -> None:
    """Try faults in namespaces of their own, and print what is missing for each as JSON.

    :param names: of loss, delay, jitter, rate, duplicate, corrupt, down, partition, freeze, crash.
    """
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
        finish(nft.load(cut_rules("cgcut", [group, other])))
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
    finish(cable.treat())
    finish(cable.clear())
    try:
        os.waitpid(-1, 0)  # the relay
    except ChildProcessError:
        pass
