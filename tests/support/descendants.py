"""Programs that start others, all of which have to end; told from all others by a text."""

from __future__ import annotations

import contextlib
import secrets
import time
from pathlib import Path

__all__ = ["TREE", "new_mark", "running", "wait_for"]

#: starts programs in sessions of their own, of which one does not want to end
TREE = """
setsid sleep {mark}1 &
(trap '' TERM; sleep {mark}2 & wait) &
exec sleep {mark}3
"""


def new_mark() -> str:
    """A text that no other process has in its command line: digits."""
    return str(secrets.randbelow(10**8) + 10**8)


def running(mark: str) -> list[str]:
    """Command lines of processes with a text in them."""
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            lines.append(path.read_text().replace("\0", " "))
    return [line for line in lines if line.startswith(f"sleep {mark}")]


def wait_for(count: int, mark: str) -> None:
    """Return when as many processes have that text in them."""
    deadline = time.monotonic() + 20
    while len(lines := running(mark)) != count:
        assert time.monotonic() < deadline, lines
        time.sleep(0.02)
