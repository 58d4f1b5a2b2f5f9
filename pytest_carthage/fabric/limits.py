"""Control groups that limit a machine of the ``netns`` target (cgroups(7), v1 and v2)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

_ROOT = "/sys/fs/cgroup"
_PERIOD_US = 100_000


def control_group(environment: str) -> str:
    """The control group above all that runs in an environment.

    It has no parent of ours, so that nobody removes one while somebody else makes a child.
    """
    return f"/pytest-carthage-{environment}"


def _values(limits: Mapping[str, Any], version: int) -> dict[str, tuple[str, str]]:
    """Controller to the file that limits it and what is written there."""
    found: dict[str, tuple[str, str]] = {}
    if limits.get("memory_mib") is not None:
        file = "memory.limit_in_bytes" if version == 1 else "memory.max"
        found["memory"] = (file, str(limits["memory_mib"] << 20))
    if limits.get("cpus") is not None:
        quota = int(limits["cpus"] * _PERIOD_US)
        if version == 1:
            found["cpu"] = ("cpu.cfs_quota_us", str(quota))
        else:
            found["cpu"] = ("cpu.max", f"{quota} {_PERIOD_US}")
    if limits.get("pids") is not None:
        found["pids"] = ("pids.max", str(limits["pids"]))
    return found


def enter(path: str, limits: Mapping[str, Any]) -> None:
    """Make the control group ``path`` and move the calling process into it.

    :raises OSError: the kernel has no such controller here, or refused a value.
    """
    unified = os.path.exists(f"{_ROOT}/cgroup.controllers")
    values = _values(limits, 2 if unified else 1)
    if unified:
        parent = _ROOT
        for part in path.strip("/").split("/"):
            _write(f"{parent}/cgroup.subtree_control", " ".join(f"+{name}" for name in values))
            parent += f"/{part}"
            os.makedirs(parent, exist_ok=True)
    for controller, (file, value) in values.items():
        folder = f"{_ROOT}{path}" if unified else f"{_ROOT}/{controller}{path}"
        if not unified and not os.path.isdir(f"{_ROOT}/{controller}"):
            raise OSError(f"no control group controller {controller!r} under {_ROOT}")
        os.makedirs(folder, exist_ok=True)
        _write(f"{folder}/{file}", value)
        _write(f"{folder}/cgroup.procs", "0")


def _write(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)
