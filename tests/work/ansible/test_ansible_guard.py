from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pytest_carthage.work.ansible import guard

GUARD = [sys.executable, "-I", "-S", guard.__file__]


def gone(pid: int) -> bool:
    """Whether a process has ended; a zombie that nobody reaps has."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def all_gone_within(pids: list[int], timeout_s: float) -> bool:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if all(map(gone, pids)):
            return True
        time.sleep(0.02)
    return False


@pytest.mark.parametrize(
    ("script", "status"), [("exit 0", 0), ("exit 7", 7), ("kill -HUP $$", 128 + 1)]
)
def test_guard_exits_with_the_status_of_the_program(script: str, status: int) -> None:
    with subprocess.Popen([*GUARD, "/bin/sh", "-c", script], stdin=subprocess.PIPE) as guard:
        assert guard.wait(10) == status


def test_guard_without_the_program_says_so() -> None:
    with subprocess.Popen(
        [*GUARD, "/no/such/program"], stdin=subprocess.PIPE, stderr=subprocess.PIPE
    ) as guard:
        assert guard.stderr is not None
        assert guard.stderr.read() == b"/no/such/program: No such file or directory\n"
        assert guard.wait(10) == 127


TREE = """
(setsid sleep 1000 & echo $!; exec >&-; wait) &
(trap '' TERM; sleep 1001 & echo $!; exec >&-; wait) &
echo $$
exec >&-
sleep 1002
"""


@pytest.mark.parametrize("way", ["close", "signal"])
def test_guard_left_alone_ends_every_descendant(way: str) -> None:
    with subprocess.Popen(
        [*GUARD, "/bin/sh", "-c", TREE], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as guard:
        assert guard.stdin is not None
        assert guard.stdout is not None
        pids = [int(guard.stdout.readline()) for _ in range(3)]
        assert not any(map(gone, pids))
        if way == "close":
            guard.stdin.close()
        else:
            guard.send_signal(signal.SIGTERM)
        assert all_gone_within(pids, 5)
        assert guard.wait(5) >= 128


def test_guard_killed_takes_the_program_along() -> None:
    with subprocess.Popen(
        [*GUARD, "/bin/sh", "-c", "echo $$; exec sleep 1003"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as guard:
        assert guard.stdout is not None
        pid = int(guard.stdout.readline())
        guard.kill()
        guard.wait(5)
        assert all_gone_within([pid], 5)


def test_guard_whose_owner_is_killed_ends_every_descendant(tmp_path: Path) -> None:
    owner = (
        "import subprocess, sys\n"
        "guard = subprocess.Popen(sys.argv[1:], stdin=subprocess.PIPE)\n"
        "guard.wait()\n"
    )
    argv = [sys.executable, "-c", owner, *GUARD, "/bin/sh", "-c", TREE]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        pids = [int(process.stdout.readline()) for _ in range(3)]
        os.kill(process.pid, signal.SIGKILL)
        assert all_gone_within(pids, 5)
