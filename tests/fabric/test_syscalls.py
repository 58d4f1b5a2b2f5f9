"""The system calls that Python lacks, tried in a process that has nothing to lose."""

from __future__ import annotations

import subprocess
import sys

_CLOSING = """
import os
from pytest_carthage.fabric import syscalls
kept = [os.open("/dev/null", os.O_RDONLY) for _ in range(40)][7::9]
syscalls.close_all_but((0, 1, 2, *kept))
left = [fd for fd in range(200) if os.path.exists(f"/proc/self/fd/{fd}")]
assert left == [0, 1, 2, *kept], left
syscalls.close_all_but((1, 2))
assert not os.path.exists("/proc/self/fd/0")
"""


def test_close_all_but_leaves_what_is_kept() -> None:
    done = subprocess.run([sys.executable, "-c", _CLOSING], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
