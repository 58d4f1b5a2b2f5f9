"""The end of what a terminal or a file has: text is added there, and a frame can stand below it."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Sequence
from typing import Protocol

__all__ = ["Sheet", "Stream", "size_of"]


class Stream(Protocol):
    """What a sheet needs of a text file."""

    def write(self, text: str, /) -> object:
        """Write text."""
        ...

    def flush(self) -> object:
        """Have it arrive."""
        ...


class Sheet:
    """Adds lines to a stream; on a terminal, draws frames below them that leave nothing behind.

    The cursor stays where text goes on while a frame is there, so that whatever somebody else
    writes comes to its place. Once a write has failed, nothing more is written.

    :param begun: says whether the last line of the stream has begun.
    :param broken: is called when a line was ended that somebody else had begun.
    """

    def __init__(
        self,
        stream: Stream,
        *,
        begun: Callable[[], bool] = lambda: False,
        broken: Callable[[], None] = lambda: None,
    ) -> None:
        self._stream = stream
        self._begun = begun
        self._broken = broken
        #: held by whoever writes to the stream
        self.lock = threading.RLock()
        self._drawn = False
        self._is_lost = False

    def add(self, line: str) -> None:
        """Add a line, below the one that somebody else has begun."""
        with self.lock:
            self.erase()
            begun = self._begun()
            self._write(f"\n{line}\n" if begun else f"{line}\n")
            if begun:
                self._broken()

    def draw(self, frame: Sequence[str]) -> None:
        """Draw a frame below, in the place of the last one; no line may be wider than all."""
        with self.lock:
            begun = self._begun()
            below = len(frame) if begun else len(frame) - 1
            # room first, which keeps the column: IND scrolls, CUD does not (ECMA-48)
            text = "\x1bD" * below + (f"\x1b[{below}A" if below else "") + "\x1b7"
            text += "\r\x1b[B" if begun else "\r"
            text += "\r\x1b[B".join(f"\x1b[2K{line}" for line in frame)
            self._write(f"{text}\x1b[J\x1b8")
            self._drawn = True

    def erase(self) -> None:
        """Take the frame away."""
        with self.lock:
            if self._drawn:
                self._drawn = False
                self._write("\x1b[J" if self._begun() else "\r\x1b[J")

    def _write(self, text: str) -> None:
        if self._is_lost:
            return
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):  # nobody reads it any more, or it is closed
            self._is_lost = True


def size_of(fd: int) -> tuple[int, int]:
    """Columns and lines of a terminal."""
    with contextlib.suppress(OSError):
        size = os.get_terminal_size(fd)
        if size.columns and size.lines:
            return size.columns, size.lines
    return 80, 24
