"""An agent in a container whose first process is no agent: it joins, and serves there."""

from __future__ import annotations

import os
import select
from typing import TYPE_CHECKING, Any

from pytest_carthage.fabric import birth, shortage
from pytest_carthage.fabric import syscalls as sys_
from pytest_carthage.fabric.wire.steps import Steps, readable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_carthage.fabric.contact import Contact
    from pytest_carthage.fabric.namespaces import Home
    from pytest_carthage.fabric.spec import MachineSpec

#: of the flags in proc_pid_stat(5): it ends, and has those who are below it end
_PF_EXITING = 4
#: where those are
_FLAGS = 6


def beside(init: int, spec: MachineSpec) -> dict[str, Any]:
    """What the agent of a machine is told that joins its init."""
    return {
        "machine": spec["name"],
        "pid": init,
        "env": spec["env"],
        "control_group": spec["control_group"],
        "limits": spec["limits"],
    }


def bear(message: Mapping[str, Any], contact: Contact, home: Home) -> int:
    """Fork an agent into the PID namespace of ``pid``; returns its process id.

    :raises OSError: there is no such process, or the kernel refused.
    """
    target = os.open(f"/proc/{message['pid']}/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
    theirs = contact.begin()
    try:
        sys_.setns(target, sys_.CLONE_NEWPID)  # for the next child alone
        try:
            return birth.fork(lambda: birth.become_guest(message, theirs), keep=(theirs.fileno(),))
        finally:
            home.bear_here()
    finally:
        os.close(target)
        theirs.close()


def fate(init: int, inner: int) -> str:
    """What has become of an agent beside an init, which is its parent, as far as can be seen.

    :param inner: its process id, as the machine counts.
    """
    try:
        fields = _fields(f"/proc/{init}/root/proc/{inner}/stat")
    except FileNotFoundError:
        return f"its process {inner} is gone"
    except OSError as error:
        return f"whether its process {inner} is there cannot be seen: {error.strerror}"
    if int(fields[_FLAGS]) & _PF_EXITING:
        return f"its process {inner} ends"
    return f"its process {inner} goes on, in state {fields[0]}"


def _fields(path: str) -> list[str]:
    """What comes after the name, see proc_pid_stat(5)."""
    with open(path, errors="replace") as file:
        return file.read().rpartition(")")[2].split()


class Container:
    """A container that somebody else has started, by its first process."""

    def __init__(self, message: Mapping[str, Any]) -> None:
        """:param message: tells of its agent, see :func:`bear`.

        :raises OSError: it has ended.
        """
        self.message = message
        self._pid: int = message["pid"]
        self._process = os.pidfd_open(self._pid)
        #: folder of the group that bounds its memory, which may be there longer than it is
        self.memory_group = shortage.folder_of(self._pid)

    def is_ending(self) -> bool:
        """Whether its first process has ended, or is about to: all others go before it does."""
        if select.select([self._process], [], [], 0)[0]:
            return True
        try:
            return bool(int(_fields(f"/proc/{self._pid}/stat")[_FLAGS]) & _PF_EXITING)
        except OSError:
            return True

    def until_ended(self, limit_s: float) -> Steps[bool]:
        """Wait until its first process has ended; returns whether it has, in time."""
        return (yield from readable(self._process, limit_s))

    def close(self) -> None:
        """Let go of it."""
        os.close(self._process)
