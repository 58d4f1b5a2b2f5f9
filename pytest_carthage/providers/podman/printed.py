"""What a container printed, as conmon writes it down: each line behind a stamp."""

from __future__ import annotations

import re

__all__ = ["printed", "without_stamps"]

# see conmon's src/ctr_logging.c: time, stream, whole or partial
_STAMP = re.compile(r"^\S+ (?:stdout|stderr) ([FP]) ?(.*)$")


def without_stamps(text: str) -> str:
    """The lines that were printed; parts of long ones are put together again."""
    parts = []
    for line in text.splitlines():
        match = _STAMP.match(line)
        said, is_whole = (match[2], match[1] == "F") if match else (line, True)
        parts.append(said.rstrip("\r") + ("\n" if is_whole else ""))
    return "".join(parts)


def printed(log: bytes) -> bytes:
    """What a machine printed, of whole lines of its log file."""
    return without_stamps(log.decode(errors="replace")).encode()
