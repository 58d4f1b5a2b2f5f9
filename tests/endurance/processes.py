"""Processes of one session, by role: all that it started, machines included."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["ROLES", "Family", "Process"]

#: what a process can be killed as; ``any``: one of all that there are
ROLES = (
    "supervisor",
    "fabric",
    "agent",
    "worker",
    "pytest",
    "birth",
    "errand",
    "sweeper",
    "workshop",
    "podman",
    "machine",
    "any",
)
_NAMESPACES = ("cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts")


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """A process, told from others that had its number before."""

    pid: int
    #: clock ticks between the start of the host and its own, see proc(5)
    started: int
    parent: int
    name: str = field(compare=False)
    command: str = field(compare=False)


@dataclass(slots=True)
class Family:
    """A session and its descendants, as far as :meth:`look` was called while they lived.

    :param marker: of the environment of each of them, as in ``NAME=value``.
    """

    marker: bytes
    #: process that the session is
    session: int
    #: all that there ever were
    known: dict[tuple[int, int], Process] = field(default_factory=dict)
    #: namespaces that were theirs alone when :meth:`adopt` was called
    namespaces: set[str] = field(default_factory=set)
    _strangers: set[int] = field(default_factory=set)

    def look(self) -> list[Process]:
        """All of them that live now, zombies left out.

        A process is one of them by its parent or by what it was started with; once it was found
        to be nobody's of this session it is not looked at again.
        """
        there: dict[int, Process] = {}
        for pid in _numbers() - self._strangers:
            if (process := _read(pid)) is not None:
                there[pid] = process
        found: dict[int, bool] = {}

        def belongs(process: Process) -> bool:
            if process.pid not in found:
                found[process.pid] = False
                above = there.get(process.parent)
                found[process.pid] = (
                    (process.pid, process.started) in self.known
                    or process.pid == self.session
                    or (above is not None and above.pid > 1 and belongs(above))
                    or self._is_marked(process.pid)
                )
            return found[process.pid]

        living = [process for process in there.values() if belongs(process)]
        for process in living:
            self.known[process.pid, process.started] = process
        self._strangers |= {pid for pid in there if not found[pid]}
        return living

    def adopt(self) -> None:
        """Take in whoever is in a namespace of theirs, or has one open, while they live."""
        own = _namespaces(os.getpid())
        theirs = set[str]().union(*(_namespaces(each.pid) for each in self.look())) - own
        for pid in self._strangers & _numbers():
            held = _namespaces(pid)
            with contextlib.suppress(OSError):
                for link in Path(f"/proc/{pid}/fd").iterdir():
                    with contextlib.suppress(OSError):
                        held.add(str(link.readlink()))
            if held & theirs and (process := _read(pid)) is not None:
                self._strangers.discard(pid)
                self.known[pid, process.started] = process
        self.namespaces = theirs

    def _is_marked(self, pid: int) -> bool:
        with contextlib.suppress(OSError):
            return self.marker in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        return False

    def of_role(self, role: str) -> list[Process]:
        """Those that live now and can be killed as this."""
        living = self.look()
        parents = {process.pid: process for process in living}
        return [
            process
            for process in living
            if role == "any" or role == _role(process, parents.get(process.parent), self.session)
        ]

    def role(self, process: Process) -> str:
        """What a process is."""
        parents = {each.pid: each for each in self.known.values()}
        return _role(process, parents.get(process.parent), self.session)


def _role(process: Process, parent: Process | None, session: int) -> str:
    in_supervisor = "pytest_carthage.state.supervisor" in process.command
    if process.pid == session:
        return "pytest"
    if process.name == "carthage-fabric":
        return "fabric"
    if process.name.startswith("cg:"):
        return "agent"
    if in_supervisor and parent is not None and parent.command == process.command:
        return "errand" if process.name == "carthage-super" else "birth"
    if in_supervisor:
        return "supervisor"
    if "state.sweeper" in process.command:
        return "sweeper"
    if "fabric.workshop" in process.command:
        return "workshop"
    if process.name in ("conmon", "podman", "crun", "runc"):
        return "podman"
    if parent is not None and parent.pid == session and "sys.stdin.readline()" in process.command:
        return "worker"
    return "machine" if process.name in ("sleep", "sh") else "other"


def _numbers() -> set[int]:
    return {int(path.name) for path in Path("/proc").iterdir() if path.name.isdecimal()}


def _read(pid: int) -> Process | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return None
    name, _, rest = stat.partition("(")[2].rpartition(")")
    fields = rest.split()
    if fields[0] in "ZX":
        return None
    return Process(
        pid=pid,
        started=int(fields[19]),
        parent=int(fields[1]),
        name=name,
        command=command.replace(b"\0", b" ").decode(errors="replace"),
    )


def _namespaces(pid: int) -> set[str]:
    links = set()
    for name in _NAMESPACES:
        with contextlib.suppress(OSError):
            links.add(str(Path(f"/proc/{pid}/ns/{name}").readlink()))
    return links
