"""A command ends with all that it has started, however that has left it."""

from __future__ import annotations

import random
import subprocess
import time
from pathlib import Path

import pytest

from pytest_carthage.fabric import descent


@pytest.mark.parametrize(
    "line",
    [
        "sleep 87 & wait",
        "setsid sleep 87 & wait",
        "setsid --fork sleep 87; sleep 87",
        "timeout 86 sleep 87",
        "sh -c 'env -i sh -c \"sleep 87; true\"; true'",
        "script -qec 'sleep 87' /dev/null",
        # an orphan with nothing of ours: neither session, parent nor environment
        "env -i setsid --fork sleep 87; sleep 87",
    ],
)
def test_all_ends(line: str) -> None:
    mark = _new_mark()
    with descent.marked(mark):
        process = subprocess.Popen(["/bin/sh", "-c", line], start_new_session=True)
    deadline = time.monotonic() + 10
    while len(_started(process.pid, mark)) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    started = _started(process.pid, mark)
    descent.kill(process.pid, mark)
    process.wait(10)
    while any(_runs(pid) for pid in started):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _new_mark() -> int:
    """None that another test may have at the same time."""
    return (1 << 61) + random.getrandbits(60)


def _started(pid: int, mark: int) -> set[int]:
    members = descent._members(pid, mark)
    return {member for member in members if member == pid or _is_sleep(member)}


def _is_sleep(pid: int) -> bool:
    try:
        return b"sleep" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False  # it has ended


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_others_go_on() -> None:
    mark = _new_mark()
    with descent.marked(mark + 1):
        other = subprocess.Popen(["sleep", "87"])
    with descent.marked(mark):
        own = subprocess.Popen(["sleep", "87"], start_new_session=True)
    try:
        descent.kill(own.pid, mark)
        assert own.wait(10) == -9
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()
