"""Control groups that limit a machine of the fabric (cgroups(7), v1 and v2)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pytest_carthage.fabric.container import groups
from pytest_carthage.fabric.host import folders

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pytest_carthage.fabric.spec import LimitsSpec, MachineSpec

_ROOT = "/sys/fs/cgroup"
_PERIOD_US = 100_000
#: version 1 gives a number of pages that no host has where there is none
_NO_LIMIT_BYTES = 1 << 60


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


class Admission:
    """The way into a machine's bounds of memory, for what its agent starts.

    The agent is not in there itself: who is over a bound is not to end who tells of it. See the
    kernel's cgroup-v1/memory and cgroup-v2, and oom_kill.c.
    """

    def __init__(self, descriptors: Sequence[int] = ()) -> None:
        """:param descriptors: of files that a process enters a control group by."""
        self.descriptors = tuple(descriptors)

    @property
    def before_exec(self) -> Callable[[], None] | None:
        """What a child has to do before it becomes a program; None: nothing."""
        return self.enter if self.descriptors else None

    def enter(self) -> None:
        """Have the calling process be within the bounds.

        :raises OSError: the control group is gone, or takes nobody.
        """
        for descriptor in self.descriptors:
            os.write(descriptor, b"0")


def step_aside(path: str, limits: LimitsSpec | None, *, has_init: bool = False) -> Admission:
    """Have the calling process be in what bounds a machine, but for its memory.

    :param has_init: the machine has an init, which removes groups below its own that are empty, and
        of version 2 has no processes in its own: there the caller stays where it is. Of version 1 a
        systemd moves into its bounds whoever it finds in its own hierarchy.
    :returns: what has those get in that it starts.
    :raises OSError: the kernel refused.
    """
    if limits is None or limits["memory_mib"] is None or (has_init and groups.is_unified()):
        return Admission()
    descriptors = []
    for hierarchy in groups.those_that_bound_memory(has_init=has_init):
        procs = f"{groups.tops()[hierarchy]}{path}/cgroup.procs"
        descriptors.append(os.open(procs, os.O_WRONLY | os.O_CLOEXEC))
        groups.stand_beside(path, hierarchy)
    return Admission(descriptors)


def used_memory(path: str) -> tuple[int, dict[str, int]]:
    """What the members of a control group use of memory: bytes, and the kernel's counters of it."""
    unified = groups.is_unified()
    folder = f"{groups.tops()['']}{path}" if unified else f"{_ROOT}/memory{path}"
    with open(f"{folder}/{'memory.current' if unified else 'memory.usage_in_bytes'}") as file:
        used = int(file.read())
    with open(f"{folder}/memory.stat") as file:
        rows = [line.split() for line in file]
    return used, {name: int(value) for name, value in rows}


def bounds_memory(folder: str) -> bool:
    """Whether a control group has a limit of memory."""
    for name in ("memory.max", "memory.limit_in_bytes"):
        try:
            with open(f"{folder}/{name}") as file:
                text = file.read().strip()
        except OSError:
            continue
        return text != "max" and int(text) < _NO_LIMIT_BYTES
    return False


def controllers(limits: LimitsSpec) -> set[str]:
    """Controllers of version 2 that limits need."""
    return set(_values(limits, 2))


def _write(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)
