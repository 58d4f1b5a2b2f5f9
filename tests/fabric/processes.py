"""Processes that a test can tell from all others, by an argument of theirs."""

from __future__ import annotations

import contextlib
import secrets
import time
from pathlib import Path


def marker() -> str:
    """An argument of sleep(1) that no other process has."""
    return f"3600.{secrets.randbelow(10**9)}"


def running(mark: str) -> list[str]:
    """Processes that have a marker among their arguments."""
    there = []
    for path in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if path.name.isdecimal() and mark.encode() in (path / "cmdline").read_bytes():
                there.append(path.name)
    return there


def begins(mark: str, limit_s: float = 10.0) -> bool:
    """Whether one is there in time."""
    deadline = time.monotonic() + limit_s
    while not running(mark) and time.monotonic() < deadline:
        time.sleep(0.001)
    return bool(running(mark))


def ends(mark: str, limit_s: float = 10.0) -> bool:
    """Whether all of them are gone in time."""
    deadline = time.monotonic() + limit_s
    while running(mark) and time.monotonic() < deadline:
        time.sleep(0.005)
    return not running(mark)
