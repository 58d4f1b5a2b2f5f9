"""The log of a serial console: what was printed as text, and never more than a bound of it."""

from __future__ import annotations

import os
import re

__all__ = ["HEAD", "MOST", "TAIL", "ConsoleLog", "Plain"]

#: bytes of a log, at most; and what stays of its beginning and of its end when there are more
MOST, HEAD, TAIL = 16 << 20, 1 << 20, 4 << 20

#: what a terminal would not show, see console_codes(4) and ECMA-48: sequences of ESC, whole ones;
#: the returns of lines; bytes that nobody prints
_HIDDEN = re.compile(
    rb"\x1b\[[0-?]*[ -/]*[@-~]"
    rb"|\x1b[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)"
    rb"|\x1b[ -/]*[0-OQ-WYZ\\`-~]"
    rb"|\x1b\[?"  # the beginning of one that somebody has cut off
    rb"|\r+(?=\n)"
    rb"|[\x00-\x08\x0b\x0c\x0e-\x1a\x7f]"
)
#: the beginning of such a sequence, whose rest is to come
_BEGUN = re.compile(rb"(?:\x1b(?:\[[0-?]*[ -/]*|[\]PX^_][^\x07\x1b]*\x1b?|[ -/]*)|\r+)\Z")
#: bytes of a sequence that has no end
_LONGEST = 4096


class Plain:
    """Takes what a terminal is sent, piece by piece, and gives the text of it."""

    def __init__(self) -> None:
        self._rest = b""

    def text(self, data: bytes) -> bytes:
        """The text in a piece; the beginning of a sequence waits for the next one."""
        data = self._rest + data
        begun = _BEGUN.search(data, max(0, len(data) - _LONGEST))
        end = len(data) if begun is None else begun.start()
        self._rest = data[end:]
        # what goes before the rest is looked at with it: the return of a line ends with that
        return _HIDDEN.sub(b"", data[:end])


class ConsoleLog:
    """A log file in which a console's output is written as text.

    It has at most ``most`` bytes: of more, the first ``head`` and the last ``tail`` stay, in the
    same file, with a line between them that says how much is left out.
    """

    def __init__(self, path: str, *, most: int = MOST, head: int = HEAD, tail: int = TAIL) -> None:
        self._most, self._head, self._tail = most, head, tail
        self._plain = Plain()
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self._file = os.open(path, flags, 0o600)
        self._size = os.fstat(self._file).st_size
        self._left_out = 0
        #: bytes that a full disk did not take
        self._lost = 0

    def write(self, data: bytes) -> None:
        """Write what was printed; what the disk does not take is counted, and told later."""
        text = self._plain.text(data)
        if self._lost:
            text = b"\n[%d bytes are lost: the disk was full]\n" % self._lost + text
        if self._size + len(text) > self._most:
            self._shorten()
        try:
            self._size += os.write(self._file, text)
        except OSError:
            self._lost += len(data)
        else:
            self._lost = 0

    def _shorten(self) -> None:
        head = os.pread(self._file, self._head, 0)
        head = head[: head.rfind(b"\n") + 1] or head
        tail = os.pread(self._file, self._tail, self._size - self._tail)
        tail = tail[tail.find(b"\n") + 1 :] or tail
        self._left_out += self._size - len(head) - len(tail)
        remark = (
            f"[... {self._left_out} bytes are left out here: it printed more than "
            f"{self._most >> 20} MiB ...]\n"
        ).encode()
        os.ftruncate(self._file, len(head))
        self._size = len(head)
        try:
            self._size += os.write(self._file, remark + tail)
        except OSError:
            self._lost += len(tail)

    def close(self) -> None:
        """Nothing more is written."""
        os.close(self._file)
