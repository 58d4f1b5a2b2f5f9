"""How a system container ended that nobody had asked to: see reboot(2), on PID namespaces."""

from __future__ import annotations

import os
import signal
from dataclasses import asdict, dataclass
from typing import Any, Literal

#: of a line that is told of in a message
_LINE_BYTES = 4096

How = Literal["reboot", "off", "exit", "killed", "lost", "main", "again", "agent", "over"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """The end of a machine's first process; or of its main one or its agent, which it goes on
    without."""

    #: it wants to be started again; it was switched off; it ended with a status, or by a signal;
    #: it could not be started again; its main process ended, or runs again; its agent ended, and
    #: has a successor; it was somebody else's, who knows more
    how: How
    #: its status, or the number of the signal
    status: int = 0
    #: seconds since the epoch
    at_s: float
    #: what the machine printed last
    last: str = ""
    #: seconds after which the main process is started again; None: it is not
    again_s: float | None = None
    #: how often it was
    restarts: int = 0
    #: whether the kernel has killed it for want of memory
    is_oom: bool = False

    def fields(self) -> dict[str, Any]:
        """As a reply has it."""
        return asdict(self)


def words(status: int) -> str:
    """A wait status, as a sentence ends."""
    if os.WIFSIGNALED(status):
        return f"by signal {os.WTERMSIG(status)}"
    return f"with status {os.waitstatus_to_exitcode(status)}"


def how(status: int) -> tuple[How, int]:
    """How a first process ended, by its wait status."""
    if not os.WIFSIGNALED(status):
        return "exit", os.waitstatus_to_exitcode(status)
    number = os.WTERMSIG(status)
    if number == signal.SIGHUP:
        return "reboot", number
    return ("off" if number == signal.SIGINT else "killed"), number


def last_line(log: str) -> str:
    """What a machine printed last, as far as it is in its log."""
    try:
        with open(log, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _LINE_BYTES))
            lines = file.read().decode(errors="replace").split("\n")
    except OSError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
