"""Processes that the kernel has killed for want of memory, by control group (cgroups(7))."""

from __future__ import annotations

import os

from pytest_carthage.fabric.container import groups

#: file of a group and the line of it that counts: of version 2, and of version 1, where a group
#: does not count those of the groups below it
_COUNTERS = {"memory.events": False, "memory.oom_control": True}
_ROOT = "/sys/fs/cgroup"


def folder(path: str) -> str:
    """The folder of the memory controller's group of this path."""
    if groups.is_unified():
        return f"{groups.tops().get('', _ROOT)}{path}"
    return f"{_ROOT}/memory{path}"


def folder_of(pid: int) -> str:
    """The folder of the memory controller's group that a process is in.

    :raises OSError: it has ended.
    """
    with open(f"/proc/{pid}/cgroup") as file:
        rows = [line.rstrip("\n").split(":", 2) for line in file]
    for _, controllers, path in rows:
        if "memory" in controllers.split(","):
            return f"{_ROOT}/memory{path}"
    return next((f"{_ROOT}{path}" for number, _, path in rows if number == "0"), _ROOT)


def kills(top: str) -> int:
    """How many processes were killed for want of memory in a group and those below it."""
    for name, is_own_alone in _COUNTERS.items():
        if os.path.exists(f"{top}/{name}"):
            folders = [path for path, _, _ in os.walk(top)] if is_own_alone else [top]
            return sum(_counter(f"{path}/{name}") for path in folders)
    return 0


def _counter(path: str) -> int:
    try:
        with open(path) as file:
            rows = [line.split() for line in file]
    except OSError:
        return 0  # a group that is gone
    return next((int(row[1]) for row in rows if row[0] == "oom_kill"), 0)
