"""What a command in a machine gave."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """A command that has ended: exit status, output, time."""

    machine: str
    #: as it was given: text for a shell, or the arguments
    command: str | tuple[str, ...]
    #: exit status; the negative signal number where a signal ended it
    status: int
    stdout: str
    stderr: str
    #: UNIX time at which it was started
    started_at: float
    duration_s: float
    user: str | None = None
    #: standard output as it came, where it is not text in UTF-8
    raw_stdout: bytes | None = field(default=None, repr=False)

    @property
    def stdout_bytes(self) -> bytes:
        """Standard output, byte for byte."""
        return self.stdout.encode() if self.raw_stdout is None else self.raw_stdout

    @property
    def ok(self) -> bool:
        """Whether the exit status is 0."""
        return self.status == 0

    @property
    def lines(self) -> list[str]:
        """Standard output, line by line, without the ends of lines."""
        return self.stdout.splitlines()

    @property
    def text(self) -> str:
        """The command as one would type it."""
        return self.command if isinstance(self.command, str) else shlex.join(self.command)

    def __bool__(self) -> bool:
        return self.ok

    def __str__(self) -> str:
        return self.stdout
