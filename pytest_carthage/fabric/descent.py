"""All that a command has started: what descends from it, and what carries its mark.

The mark is a limit that the kernel keeps, and does not look at since Linux 2.4: that of file
locks, see getrlimit(2). What is started inherits it, whatever becomes of its session (setsid(1)),
its environment (``env -i``, su(1)) and its parent. Nothing is to be done for it but to set it
before a command is started, and to set it back.
"""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager

#: not among those of :mod:`resource`
RLIMIT_LOCKS = 10
_LINE = b"Max file locks"
#: how often it is looked whether something has been started meanwhile
_ROUNDS = 10


@contextmanager
def marked(mark: int) -> Iterator[None]:
    """Have what the calling process starts in the block carry a mark, where the kernel lets it."""
    try:
        before = resource.getrlimit(RLIMIT_LOCKS)
        resource.setrlimit(RLIMIT_LOCKS, (mark, before[1]))
    except (OSError, ValueError):  # whoever has started us has bounded it
        yield
        return
    try:
        yield
    finally:
        resource.setrlimit(RLIMIT_LOCKS, before)


def kill(pid: int, mark: int) -> None:
    """End a process and all that it has started, at once."""
    own = os.getpid()
    killed: set[int] = set()
    for _ in range(_ROUNDS):
        new = _members(pid, mark) - killed - {own, 1}
        if not new:
            return
        for member in new:
            try:
                os.kill(member, signal.SIGKILL)
            except ProcessLookupError:
                continue
        killed |= new


def _members(pid: int, mark: int) -> set[int]:
    parents: dict[int, int] = {}
    members = {pid} if os.path.exists(f"/proc/{pid}") else set()
    for name in os.listdir("/proc"):
        if not name.isdecimal():
            continue
        try:
            with open(f"/proc/{name}/stat", "rb") as file:
                parents[int(name)] = int(file.read().rpartition(b")")[2].split()[1])
            with open(f"/proc/{name}/limits", "rb") as file:
                if _mark_in(file.read()) == mark:
                    members.add(int(name))
        except OSError:
            continue  # it has ended
    while True:
        children = {child for child, parent in parents.items() if parent in members} - members
        if not children:
            return members
        members |= children


def _mark_in(limits: bytes) -> int | None:
    soft = limits.partition(_LINE)[2].split(None, 1)[:1]
    return int(soft[0]) if soft and soft[0].isdigit() else None
