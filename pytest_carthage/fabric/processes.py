"""All processes of a machine, seen from the fabric: stopped, continued, ended."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import time
from collections.abc import Iterable

_NS_GET_PARENT = 0xB702
_STOP_S = 5.0
_STOPPED = "TtZXx"


def _fields(pid: int) -> list[str]:
    with open(f"/proc/{pid}/stat", errors="replace") as file:
        return file.read().rpartition(")")[2].split()


class _Members:
    """Finds the processes of a PID namespace and of those below it."""

    def __init__(self, namespace: tuple[int, int]) -> None:
        self._belongs: dict[str, bool] = {f"pid:[{namespace[1]}]": True}
        self._namespace = namespace

    def pids(self) -> list[int]:
        """All of them that there are now."""
        return [int(name) for name in os.listdir("/proc") if name.isdecimal() and self._has(name)]

    def _has(self, pid: str) -> bool:
        path = f"/proc/{pid}/ns/pid"
        try:
            link = os.readlink(path)
            if link not in self._belongs:
                self._belongs[link] = self._is_below(path)
            return self._belongs[link]
        except OSError:
            return False  # it ended meanwhile

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


def _members_of(pid: int) -> _Members:
    info = os.stat(f"/proc/{pid}/ns/pid")
    return _Members((info.st_dev, info.st_ino))


def freeze(pid: int) -> list[tuple[int, str]]:
    """Stop all processes of the PID namespace of ``pid``; returns them, each with its start.

    Who was stopped before is not among them.

    :raises OSError: some do not stop.
    """
    members = _members_of(pid)
    stopped: dict[int, str] = {}
    met: set[int] = set()
    deadline = time.monotonic() + _STOP_S
    while True:
        running = []
        for member in members.pids():
            try:
                fields = _fields(member)
                if fields[0] in _STOPPED:
                    met.add(member)
                    continue
                if member in met and fields[0] == "D":
                    # it is in the kernel and stops before it does anything else; who waits for
                    # a child of vfork(2) that was stopped before its exec waits until that goes on
                    continue
                running.append(member)
                if member not in met:
                    met.add(member)
                    os.kill(member, signal.SIGSTOP)
                    stopped[member] = fields[19]
            except (FileNotFoundError, ProcessLookupError):
                continue
        if not running:
            return list(stopped.items())
        if time.monotonic() > deadline:
            thaw(list(stopped.items()))
            raise OSError(f"processes that do not stop within {_STOP_S:g} s: {running}")
        time.sleep(0.0005)


def thaw(stopped: Iterable[tuple[int, str]]) -> None:
    """Let processes go on that :func:`freeze` has stopped."""
    for pid, start in stopped:
        try:
            if _fields(pid)[19] == start:
                os.kill(pid, signal.SIGCONT)
        except (FileNotFoundError, ProcessLookupError):
            continue


def kill_all(pid: int) -> None:
    """End all processes of the PID namespace of ``pid`` at once: the kernel does, with its first.

    Returns when they are gone.
    """
    members = _members_of(pid)
    ending = []
    for member in members.pids():
        try:
            with open(f"/proc/{member}/status") as file:
                numbers = next(line for line in file if line.startswith("NSpid:")).split()
            ending.append(os.pidfd_open(member))
            if numbers[-1] == "1" or member == pid:
                os.kill(member, signal.SIGKILL)
        except (OSError, StopIteration):
            continue
    deadline = time.monotonic() + _STOP_S
    for fd in ending:
        select.select([fd], [], [], max(0.0, deadline - time.monotonic()))
        os.close(fd)
