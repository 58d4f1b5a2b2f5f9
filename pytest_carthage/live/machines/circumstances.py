"""What goes on around a live machine that may be why something in it fails."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pytest_carthage import clock
from pytest_carthage.errors import CarthageError
from pytest_carthage.handles.gates import CUT
from pytest_carthage.live.faults.registry import hms
from pytest_carthage.live.machines.core import MachineCore

if TYPE_CHECKING:
    from pytest_carthage.live.rooms import Rooms

__all__ = ["CircumstanceOperations", "circumstances"]

#: of one kind no more than this are named
_MOST = 5
#: statuses of what was killed, as itself and as a shell tells it
_KILLED = (-signal.SIGKILL, 128 + signal.SIGKILL)


def faults_since(rooms: Rooms, since_s: float) -> list[str]:
    """Faults that are in force, or were since a UNIX time."""
    lines = []
    for fault in rooms.faults.begun:
        if fault.healed_s is None:
            lines.append(f"in force since {hms(fault.began_s)}: fault {fault.subject}")
        elif fault.healed_s >= since_s:
            until = f"{hms(fault.began_s)} to {hms(fault.healed_s)}"
            lines.append(f"in force from {until}: fault {fault.subject}")
    return _some(lines, "faults")


def gate_failures_since(rooms: Rooms, since_s: float, machine: str | None = None) -> list[str]:
    """Connections through gates that have failed since a UNIX time.

    :param machine: the one whose gates they are; None: all.
    """
    failures: Counter[str] = Counter()
    for gate in rooms.gates.opened:
        if machine not in (None, gate.machine):
            continue
        for connection in gate.record.connections:
            at_s = connection.ended_at or connection.began_at
            if connection.error not in (None, CUT) and at_s >= since_s:
                failures[f"gate of {gate.machine} to {gate.to}: {connection.error}"] += 1
    lines = [line if count == 1 else f"{line} ({count} times)" for line, count in failures.items()]
    return _some(lines, "gates")


def _some(lines: list[str], things: str) -> list[str]:
    rest = len(lines) - _MOST
    return [*lines[:_MOST], f"and {rest} more {things}"] if rest > 0 else lines


async def circumstances(
    rooms: Rooms, machines: Sequence[CircumstanceOperations], since_s: float
) -> list[str]:
    """What went on in a layout since a UNIX time that may be why something has failed."""
    lines = faults_since(rooms, since_s) + gate_failures_since(rooms, since_s)
    for machine in machines:
        if collapse := machine.take_collapse():
            lines.append(collapse)
        reasons = [*filter(None, [machine.stalled]), *await machine.killed()]
        lines += [f"machine {machine.name!r}: {line}" for line in reasons]
    return lines


class CircumstanceOperations(MachineCore):
    """What goes on around a machine."""

    #: processes that were killed for want of memory by when that was last looked at, and then
    _oom_kills = 0
    _oom_looked_s: float | None = None

    async def circumstances(self, since_s: float, *, status: int | None = None) -> Sequence[str]:
        """Faults, connections that gates could not make, and processes killed by the kernel.

        :param status: of a command that has failed; only one that was killed may have been so for
            want of memory.
        """
        lines = faults_since(self._rooms, since_s)
        lines += gate_failures_since(self._rooms, since_s, self.name)
        if status is None or status in _KILLED:
            lines += await self.killed()
        return lines

    async def killed(self) -> list[str]:
        """That the kernel has killed processes since this was last asked."""
        limits = self.planned.limits
        if limits is None or limits.memory_mib is None or self.surroundings.closed:
            return []
        try:
            reply, _ = await self.surroundings.fabric.request("oom", machine=self.name)
        except CarthageError:
            return []
        kills, before_s = reply["kills"] - self._oom_kills, self._oom_looked_s
        self._oom_kills, self._oom_looked_s = reply["kills"], clock.unix_s()
        if kills <= 0:
            return []
        since = "it started" if before_s is None else hms(before_s)
        processes = "a process" if kills == 1 else f"{kills} processes"
        return [
            f"the kernel has killed {processes} in it for want of memory since {since}: its limit "
            f"is {limits.memory_mib} MiB; try: limits=Limits(memory_mib=...) with more"
        ]

    async def _meanwhile(self, since_s: float) -> str:
        """The same, as the end of a line; empty: nothing."""
        return "".join(f"; {line}" for line in await self.circumstances(since_s))
