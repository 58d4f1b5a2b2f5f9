"""The log of a machine: a file that grows, of which no more is read than somebody needs."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from pytest_carthage.handles.printed import Printed

__all__ = ["Log", "Search"]

_PIECE = 1 << 20
#: of the end of a log, for a message
_WORDS = 64 << 10


class Log:
    """What a machine has printed, in a file; one that is not there is empty.

    :param printed: finds in whole lines of the file what was printed; None: they are that.
    """

    def __init__(self, path: Path, printed: Callable[[bytes], bytes] | None = None) -> None:
        self.path = path
        self._printed = printed

    @property
    def size(self) -> int:
        """Bytes of the file."""
        try:
            return self.path.stat().st_size
        except FileNotFoundError:
            return 0

    def text(self, since: int = 0) -> str:
        """All that was printed from a byte of the file on."""
        return self._text(self._read(since, self.size))

    def tail(self, since: int = 0, most_bytes: int = _PIECE) -> str:
        """The end of what was printed from a byte of the file on: whole lines, as many as fit."""
        size = self.size
        begin = max(since, size - most_bytes)
        return self._text(_from_a_line(self._read(begin, size), is_cut=begin > since))

    def last_lines(self, count: int, since: int = 0) -> list[str]:
        """The last lines that were printed, as far as they are not too long."""
        return self.tail(since, _WORDS).rstrip().splitlines()[-count:]

    def part(self, since: int, *, head: int, tail: int) -> Printed:
        """What was printed from a byte of the file on; of more than ``head`` and ``tail`` bytes
        the beginning and the end, in whole lines.
        """
        size = self.size
        since = since if since <= size else 0  # it is another file by now
        if size - since <= head + tail:
            return Printed(text=self._text(self._read(since, size)), before=since)
        first = self._read(since, since + head)
        first = first[: first.rfind(b"\n") + 1] or first
        last = _from_a_line(self._read(size - tail, size), is_cut=True)
        left_out = size - since - len(first) - len(last)
        remark = f"[... {left_out} bytes are left out here ...]\n"
        text = f"{self._text(first)}{remark}{self._text(last)}"
        return Printed(text=text, before=since, left_out=left_out)

    def pieces(self, since: int = 0) -> Iterator[tuple[bytes, int]]:
        """What was printed from a byte of the file on, piece by piece, and where each one ends."""
        try:
            file = self.path.open("rb")
        except FileNotFoundError:
            return
        with file:
            file.seek(since)
            while data := file.read(_PIECE):
                if self._printed is not None:
                    data += file.readline()
                    data = data[: data.rfind(b"\n") + 1]  # the rest of a line is to come
                    if not data:
                        return
                    file.seek(since + len(data))
                since += len(data)
                yield data if self._printed is None else self._printed(data), since

    def _read(self, begin: int, end: int) -> bytes:
        try:
            with self.path.open("rb") as file:
                file.seek(begin)
                return file.read(max(0, end - begin))
        except FileNotFoundError:
            return b""

    def _text(self, data: bytes) -> str:
        return (data if self._printed is None else self._printed(data)).decode(errors="replace")


class Search:
    """Looks for a text in a log, of which it reads each byte once."""

    def __init__(self, log: Log, text: str) -> None:
        self._log = log
        self._text = text.encode(errors="surrogateescape")
        self._at = 0
        #: the end of what was read, in which the text may begin
        self._rest = b""

    def is_there(self) -> bool:
        """Whether it has been printed since it was looked for the last time."""
        if self._log.size < self._at:  # it is another file by now
            self._at, self._rest = 0, b""
        for data, end in self._log.pieces(self._at):
            self._at = end
            data = self._rest + data
            if self._text in data:
                return True
            self._rest = data[max(0, len(data) - len(self._text) + 1) :]
        return False


def _from_a_line(data: bytes, *, is_cut: bool) -> bytes:
    """Without the rest of a line whose beginning is not there."""
    if not is_cut:
        return data
    begin = data.find(b"\n") + 1
    return data[begin:] if begin < len(data) else data


def size_of_logs(folder: Path) -> dict[str, int]:
    """Name of each log in a folder to its bytes."""
    try:
        with os.scandir(folder) as entries:
            return {
                entry.name: entry.stat().st_size for entry in entries if entry.name.endswith(".log")
            }
    except FileNotFoundError:
        return {}
