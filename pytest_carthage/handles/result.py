"""What a command in a machine gave."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass, replace

from pytest_carthage.handles.encoding import DEFAULT
from pytest_carthage.handles.excerpts import beginning, ending
from pytest_carthage.handles.kept import shortened
from pytest_carthage.handles.lines import lines_of

#: characters that a record keeps of the beginning and of the end of what was printed
_HEAD, _TAIL = 8 << 10, 24 << 10
#: characters of the command, and of the end of each output, in a representation
_COMMAND, _OUTPUT = 60, 60


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Result:
    """A command that has ended: exit status, output, time.

    Of a secret one, who ran it has the output; what is kept, and what is shown of it, has none.
    """

    machine: str
    #: as it was given: text for a shell, or the arguments
    command: str | tuple[str, ...]
    #: exit status; the negative signal number where a signal ended it
    status: int
    #: text in :attr:`encoding`; a byte that is none in it is a surrogate, as Python's own functions
    #: have it (``surrogateescape``)
    stdout: str
    stderr: str
    #: UNIX time at which it was started
    started_at: float
    duration_s: float
    user: str | None = None
    #: as the locale that it was run with says
    encoding: str = DEFAULT
    #: whether its input and output are nobody else's business
    secret: bool = False
    #: command lines of what it has left running with its output open: what they print later is
    #: not in here
    left_running: tuple[str, ...] = ()

    @property
    def stdout_bytes(self) -> bytes:
        """Standard output, byte for byte."""
        return self.stdout.encode(self.encoding, "surrogateescape")

    @property
    def stderr_bytes(self) -> bytes:
        """Standard error, byte for byte."""
        return self.stderr.encode(self.encoding, "surrogateescape")

    @property
    def ok(self) -> bool:
        """Whether the exit status is 0."""
        return self.status == 0

    @property
    def lines(self) -> list[str]:
        """Standard output, line by line; a newline ends one, or a carriage return and a newline."""
        return lines_of(self.stdout)

    @property
    def text(self) -> str:
        """The command as one would type it."""
        return self.command if isinstance(self.command, str) else shlex.join(self.command)

    @property
    def record(self) -> Result:
        """It as it may be kept: without the output of a secret one, and not too much of a long one.

        Of more than 32,768 characters the first 8,192 and the last 24,576 are kept.
        """
        if self.secret:
            return replace(self, stdout="", stderr="")
        if max(len(self.stdout), len(self.stderr)) <= _HEAD + _TAIL:
            return self
        return replace(
            self,
            stdout=shortened(self.stdout, head=_HEAD, tail=_TAIL),
            stderr=shortened(self.stderr, head=_HEAD, tail=_TAIL),
        )

    def size(self) -> int:
        """What it takes of memory, in bytes."""
        words = (self.command,) if isinstance(self.command, str) else self.command
        return sum(map(sys.getsizeof, (self, self.stdout, self.stderr, *words)))

    def __repr__(self) -> str:
        """As in ``<Result of 'nginx -t' on web: status 1 in 0.02 s, stderr 'no such file'>``."""
        told = f"<Result of {beginning(self.text, _COMMAND)} on {self.machine}"
        told += f" as {self.user}" if self.user is not None else ""
        told += f": status {self.status} in {self.duration_s:.2f} s"
        if self.secret:
            return f"{told}, secret>"
        for name, text in (("stdout", self.stdout), ("stderr", self.stderr)):
            told += f", {name} {ending(text, _OUTPUT)}" if text else ""
        return f"{told}>"

    def __bool__(self) -> bool:
        return self.ok

    def __str__(self) -> str:
        return self.stdout
