"""What an environment of containers leaves on the host, if it leaves anything."""

from __future__ import annotations

import time
from pathlib import Path

from pytest_carthage.fabric.limits import control_group

__all__ = ["assert_none", "traces"]


def traces(environment: str) -> list[str]:
    """List processes, mounts and control groups that hold an environment's name."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            text = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if environment in text and "python" not in text:
            found.append(text)
    mounts = Path("/proc/self/mounts").read_text().splitlines()
    found += [line for line in mounts if environment in line]
    name = control_group("*", environment).strip("/")
    # one hierarchy, or one for each controller
    groups = Path("/sys/fs/cgroup")
    return found + [str(group) for group in [*groups.glob(name), *groups.glob(f"*/{name}")]]


def assert_none(environment: str, *, within_s: float = 10.0) -> None:
    """Assert that nothing of it is left before the time is over."""
    deadline = time.monotonic() + within_s
    while left := traces(environment):
        assert time.monotonic() < deadline, left
        time.sleep(0.05)
