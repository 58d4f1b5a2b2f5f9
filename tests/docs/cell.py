"""A target of our own: a *cell* is a process tree of this host that is no part of any fabric.

It stands for whatever a third party has: virtual machines, a cloud, boards on a shelf. A cell has
a root of its own (an overlay above the host's) and no network but its own loopback.
"""

from __future__ import annotations

import asyncio
import os
import select
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pytest_carthage.channels.deputy import deputy_by_command
from pytest_carthage.errors import CreationError, Problem
from pytest_carthage.planning.plan import Plan, PlannedMachine
from pytest_carthage.provider import Channel, Context, Identity, Traits

TAG = "CARTHAGE_CELL"
IDLE = ("sh", "-c", "trap 'exit 0' TERM; sleep infinity & wait $!")
START = """\
set -e
folder=$1 name=$2; shift 2
mkdir -p "$folder/root" "$folder/upper" "$folder/work"
mount -t overlay -o "lowerdir=/,upperdir=$folder/upper,workdir=$folder/work" cell "$folder/root"
mount -t proc proc "$folder/root/proc"
mount --rbind /dev "$folder/root/dev"
ip link set lo up
hostname "$name"
printf '127.0.0.1 localhost\\n127.0.1.1 %s\\n' "$name" > "$folder/root/etc/hosts"
exec chroot "$folder/root" sh -c 'cd /; echo ready; exec "$@" >&2' sh "$@"
"""


class CellProvider:
    """Makes cells."""

    kind = "cell"
    traits = Traits(root="existing", init=False, outside=True)

    def check(self, plan: Plan | None = None) -> Sequence[Problem]:
        """List what this host lacks."""
        if os.geteuid() == 0:
            return []
        return [Problem(who=self.kind, what="cells need root", remedy="run as root")]

    async def create(self, planned: PlannedMachine, context: Context) -> Cell:
        """Start a cell; the journal knows of it already, since it is outside of the fabric."""
        cell = Cell(context.identity, None, planned, context)  # type: ignore[arg-type]
        await cell.start()
        return cell

    async def destroy(self, identity: Identity) -> None:
        """End a cell by the mark that it carries; one that is gone is no error."""
        for pid in _pids(_mark(identity)):
            await asyncio.to_thread(_end, pid, 0.0)

    async def leftovers(self, run: str) -> Sequence[Identity]:
        """Find cells of a run by their marks."""
        marks = {mark for _, mark in _marked() if mark.startswith(f"{run}/")}
        return [
            Identity(kind=self.kind, run=run, environment=environment, name=name, outside=True)
            for _, environment, name in (mark.split("/") for mark in marks)
        ]


@dataclass(slots=True)
class Cell:
    """What a cell is operated by."""

    identity: Identity
    channel: Channel
    _planned: PlannedMachine
    _context: Context

    async def start(self) -> None:
        """Start it, with the files that it had, and have a deputy answer for it."""
        await asyncio.to_thread(self._start)
        pid = await asyncio.to_thread(self._pid)
        reach = ["nsenter", "--target", str(pid), "--all", "--root", "--wd", "--"]
        command = deputy_by_command(reach, env=self._planned.env)
        self.channel = await self._context.deputy(self._planned.name, command)

    def _start(self) -> None:
        planned, folder = self._planned, self._context.folder / "cells" / self._planned.name
        folder.mkdir(parents=True, exist_ok=True)
        unshare = ["unshare", "--mount", "--net", "--pid", "--uts", "--ipc", "--fork"]
        command = ["sh", "-c", START, "sh", str(folder), planned.hostname]
        told, telling = os.pipe()
        with self._log.open("ab") as log, os.fdopen(told) as ready:
            subprocess.run(
                ["setsid", "--fork", *unshare, *command, *(planned.command or IDLE)],
                env={"PATH": f"{os.defpath}:/usr/sbin:/sbin", TAG: _mark(self.identity)},
                stdin=subprocess.DEVNULL,
                stdout=telling,
                stderr=log,
                check=True,
            )
            os.close(telling)
            if ready.readline() != "ready\n":
                raise CreationError(
                    f"machine {planned.name!r} of layout {self._context.plan.layout!r}: the cell "
                    f"did not start; it printed: {self._log.read_text().strip() or 'nothing'}"
                )

    async def stop(self, *, timeout_s: float = 10.0) -> None:
        """Ask its first process to end, and end all after the time."""
        await asyncio.to_thread(lambda: _end(self._pid(), timeout_s))

    async def logs(self) -> str:
        """What its first process printed."""
        return self._log.read_text(errors="replace")

    @property
    def _log(self) -> Path:
        return self._context.logs / f"{self._planned.name}.log"

    def _pid(self) -> int:
        """Its first process, which shows no mark at the moment when it becomes its command."""
        deadline = time.monotonic() + 1.0
        while time.monotonic() < deadline:
            for pid in _pids(_mark(self.identity)):
                status = Path(f"/proc/{pid}/status").read_text()
                if status.partition("NSpid:")[2].split("\n")[0].split()[1:] == ["1"]:
                    return pid
            time.sleep(0.02)
        raise CreationError(f"cell {self._planned.name!r} has ended; log: {self._log}")


def _mark(identity: Identity) -> str:
    return f"{identity.run}/{identity.environment}/{identity.name}"


def _marked() -> Iterator[tuple[int, str]]:
    """Processes that carry a mark, each with it."""
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            variables = path.read_bytes().split(b"\0")
        except OSError:
            continue  # it ended meanwhile, or is another user's
        for variable in variables:
            if variable.startswith(f"{TAG}=".encode()):
                yield int(path.parent.name), variable.partition(b"=")[2].decode()


def _pids(mark: str) -> list[int]:
    return [pid for pid, other in _marked() if other == mark]


def _end(pid: int, timeout_s: float) -> None:
    """End a process: what is in the PID namespace of a first process ends with it."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    with os.fdopen(fd):
        for number, seconds in ((signal.SIGTERM, timeout_s), (signal.SIGKILL, 10.0)):
            if seconds and not select.select([fd], [], [], 0)[0]:
                signal.pidfd_send_signal(fd, number)
                select.select([fd], [], [], seconds)
