"""All processes of a machine, seen from the fabric: stopped, continued, ended."""

from __future__ import annotations

import fcntl
import os
import signal
from collections.abc import Callable, Iterable

from pytest_carthage import clock
from pytest_carthage.fabric.wire.steps import Steps, gone, pause

_NS_GET_PARENT = 0xB702
_STOP_S = 5.0
_STOPPED = "TtZXx"


def _fields(pid: int) -> list[str]:
    with open(f"/proc/{pid}/stat", errors="replace") as file:
        return file.read().rpartition(")")[2].split()


class _Process:
    """A process by a descriptor: what is found out after this was made is about who it signals.

    :raises ProcessLookupError: nobody has this number.
    """

    def __init__(self, pid: int) -> None:
        self.fd = os.pidfd_open(pid)

    def __enter__(self) -> _Process:
        return self

    def __exit__(self, *exc: object) -> None:
        os.close(self.fd)

    def signal(self, number: int) -> None:
        """Signal it, and nobody who has its number by now."""
        signal.pidfd_send_signal(self.fd, number)


class _Members:
    """Finds the processes of the PID namespace of a first process, and of those below it.

    An ordinary user's fabric may not look into processes with memory of the host's, as first
    processes and agents are: these descend from the first one, agents beside an init included.
    """

    def __init__(self, first: int) -> None:
        self._first = first
        self._belongs: dict[str, bool] = {}
        self._namespace: tuple[int, int] | None = None
        try:
            info = os.stat(f"/proc/{first}/ns/pid")
        except PermissionError:
            return
        self._namespace = info.st_dev, info.st_ino
        self._belongs[f"pid:[{info.st_ino}]"] = True

    def pids(self) -> list[int]:
        """All of them that there are now."""
        return [int(name) for name in os.listdir("/proc") if name.isdecimal() and self.has(name)]

    def has(self, pid: int | str) -> bool:
        """Whether the process that has this number now is one of them."""
        path = f"/proc/{pid}/ns/pid"
        try:
            if self._namespace is None:
                return self._descends(int(pid))
            link = os.readlink(path)
            if link not in self._belongs:
                self._belongs[link] = self._is_below(path)
            return self._belongs[link]
        except PermissionError:
            return self._descends(int(pid))
        except OSError:
            return False  # it ended meanwhile

    def _descends(self, pid: int) -> bool:
        try:
            while pid not in (self._first, 0, 1):
                pid = int(_fields(pid)[1])
        except OSError:
            return False  # it ended meanwhile
        return pid == self._first

    def _is_below(self, path: str) -> bool:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            while True:
                info = os.fstat(fd)
                if (info.st_dev, info.st_ino) == self._namespace:
                    return True
                try:
                    parent = fcntl.ioctl(fd, _NS_GET_PARENT)
                except OSError:
                    return False  # it is not below the fabric's own
                os.close(fd)
                fd = parent
        finally:
            os.close(fd)


def end(pid: int, ask: Callable[[int], Steps[None]], limit_s: float) -> Steps[bool]:
    """End one process; returns whether it has ended, or was gone, in this time.

    :param ask: is given its descriptor, and may have it end in good order before.
    """
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        yield from ask(process)
        try:
            signal.pidfd_send_signal(process, signal.SIGKILL)
        except ProcessLookupError:
            pass
    except BaseException:
        os.close(process)
        raise
    return (yield from gone(process, limit_s))


def freeze(pid: int) -> Steps[list[tuple[int, str]]]:
    """Stop all processes of the PID namespace of ``pid``; returns them, each with its start.

    Who was stopped before is not among them.

    :raises OSError: some do not stop.
    """
    members = _Members(pid)
    stopped: dict[int, str] = {}
    met: set[int] = set()
    deadline = clock.monotonic_s() + _STOP_S
    while True:
        running = []
        for member in members.pids():
            try:
                with _Process(member) as process:
                    fields = _fields(member)
                    if fields[0] in _STOPPED:
                        met.add(member)
                        continue
                    if member in met and fields[0] == "D":
                        # it is in the kernel and stops before it does anything else; who waits
                        # for a child of vfork(2) that was stopped before its exec waits until
                        # that goes on
                        continue
                    if not members.has(member):
                        continue  # the number is another's by now
                    running.append(member)
                    if member not in met:
                        met.add(member)
                        process.signal(signal.SIGSTOP)
                        stopped[member] = fields[19]
            except (FileNotFoundError, ProcessLookupError):
                continue
        if not running:
            return list(stopped.items())
        if clock.monotonic_s() > deadline:
            thaw(list(stopped.items()))
            raise OSError(f"processes that do not stop within {_STOP_S:g} s: {running}")
        yield from pause(0.0005)


def thaw(stopped: Iterable[tuple[int, str]]) -> None:
    """Let processes go on that :func:`freeze` has stopped."""
    for pid, start in stopped:
        try:
            with _Process(pid) as process:
                if _fields(pid)[19] == start:
                    process.signal(signal.SIGCONT)
        except (FileNotFoundError, ProcessLookupError):
            continue


def kill_all(pid: int) -> Steps[None]:
    """End all processes of the PID namespace of ``pid`` at once: the kernel does, with its first.

    Returns when they are gone, or when they had their time for it.
    """
    members = _Members(pid)
    ending = []
    for member in members.pids():
        try:
            process = _Process(member)
            if not members.has(member):
                os.close(process.fd)
                continue
            ending.append(process.fd)
            with open(f"/proc/{member}/status") as file:
                numbers = next(line for line in file if line.startswith("NSpid:")).split()
            if numbers[-1] == "1" or member == pid:
                process.signal(signal.SIGKILL)
        except (OSError, StopIteration):
            continue
    deadline = clock.monotonic_s() + _STOP_S
    for fd in ending:
        yield from gone(fd, max(0.0, deadline - clock.monotonic_s()))
