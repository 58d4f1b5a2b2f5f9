"""Where a file has content, and where it has holes; see lseek(2)."""

from __future__ import annotations

import errno
import os

__all__ = ["Part", "parts_of"]

#: offset and size
Part = tuple[int, int]

_BLOCK = 512


def parts_of(fd: int, info: os.stat_result) -> list[Part]:
    """The parts of a file that have content, in their order; all but the last are whole blocks."""
    size = info.st_size
    if not size:
        return []
    if info.st_blocks * _BLOCK >= size:
        return [(0, size)]
    parts: list[Part] = []
    at = 0
    while at < size:
        try:
            start = os.lseek(fd, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # nothing but a hole follows
                break
            return [(0, size)]
        at = min(os.lseek(fd, start, os.SEEK_HOLE), size)
        if start >= at or (start % _BLOCK or (at % _BLOCK and at < size)):
            return [(0, size)]  # not as file systems do it: nothing is left out
        parts.append((start, at - start))
    return parts
