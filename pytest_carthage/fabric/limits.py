"""Control groups that limit a machine of the fabric (cgroups(7), v1 and v2)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pytest_carthage.fabric.container import groups
from pytest_carthage.fabric.host import folders

if TYPE_CHECKING:
    from pytest_carthage.fabric.spec import LimitsSpec, MachineSpec

_ROOT = "/sys/fs/cgroup"
_PERIOD_US = 100_000


def control_group(run: str, environment: str) -> str:
    """The control group above all that runs in an environment.

    It holds the identity of the run: another run may have an environment of the same name. It has
    no parent of ours, so that nobody removes one while somebody else makes a child.
    """
    return f"/{groups.OURS}{environment}-{run}"


def _values(limits: LimitsSpec, version: int) -> dict[str, tuple[str, str]]:
    """Controller to the file that limits it and what is written there."""
    found: dict[str, tuple[str, str]] = {}
    if limits["memory_mib"] is not None:
        file = "memory.limit_in_bytes" if version == 1 else "memory.max"
        found["memory"] = (file, str(limits["memory_mib"] << 20))
    if limits["cpus"] is not None:
        quota = int(limits["cpus"] * _PERIOD_US)
        if version == 1:
            found["cpu"] = ("cpu.cfs_quota_us", str(quota))
        else:
            found["cpu"] = ("cpu.max", f"{quota} {_PERIOD_US}")
    if limits["pids"] is not None:
        found["pids"] = ("pids.max", str(limits["pids"]))
    return found


def memory_mib(spec: MachineSpec) -> int | None:
    """What a machine may use of memory; None: all that the host has."""
    return spec["limits"]["memory_mib"] if spec["limits"] is not None else None


def enter(path: str, limits: LimitsSpec) -> None:
    """Make the control group ``path`` and move the calling process into it.

    :raises OSError: the kernel has no such controller here, or refused a value.
    :raises ValueError: the path leads elsewhere.
    """
    if groups.is_unified():
        folder = groups.make(path)
        for controller, (file, value) in _values(limits, 2).items():
            if not os.path.exists(f"{folder}/{file}"):
                raise OSError(f"no control group controller {controller!r} in {folder}")
            _write(f"{folder}/{file}", value)
        _write(f"{folder}/cgroup.procs", "0")
        return
    folders.steps(path)
    for controller, (file, value) in _values(limits, 1).items():
        if not os.path.isdir(f"{_ROOT}/{controller}"):
            raise OSError(f"no control group controller {controller!r} under {_ROOT}")
        folder = f"{_ROOT}/{controller}{path}"
        os.makedirs(folder, exist_ok=True)
        _write(f"{folder}/{file}", value)
        _write(f"{folder}/cgroup.procs", "0")


def used_memory(path: str) -> tuple[int, dict[str, int]]:
    """What the members of a control group use of memory: bytes, and the kernel's counters of it."""
    unified = groups.is_unified()
    folder = f"{groups.tops()['']}{path}" if unified else f"{_ROOT}/memory{path}"
    with open(f"{folder}/{'memory.current' if unified else 'memory.usage_in_bytes'}") as file:
        used = int(file.read())
    with open(f"{folder}/memory.stat") as file:
        rows = [line.split() for line in file]
    return used, {name: int(value) for name, value in rows}


def controllers(limits: LimitsSpec) -> set[str]:
    """Controllers of version 2 that limits need."""
    return set(_values(limits, 2))


def _write(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)
