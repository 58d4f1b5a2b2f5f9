"""What this host offers for containers, found out by looking: nothing is started or changed."""

from __future__ import annotations

import importlib.util
import json
import os
import resource
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_carthage.errors import Problem
from pytest_carthage.fabric.host import privilege, subids
from pytest_carthage.fabric.host.programs import PATH
from pytest_carthage.state.places import state_root
from pytest_carthage.store.root import images_root

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_carthage.planning.plan import Plan

__all__ = ["Engine", "check", "find_engine", "problem", "refused"]

_CGROUPS = Path("/sys/fs/cgroup")
# podman's own defaults are above what a host without CAP_SYS_RESOURCE may give
_MOST_FILES = 65_536
_MOST_PROCESSES = 4_194_304
_NO_LIMIT = 1 << 62


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """How containers are run on this host."""

    #: name of the OCI runtime: crun, or runc where there is no other
    runtime: str
    #: a mount that the runtime must not see, if any: crun refuses cgroup v1 with v2 beside it
    hide: Path | None
    #: whether it gives containers control groups: a user's podman has none to give
    has_control_groups: bool = True
    #: limits of each container, below the host's own
    ulimits: tuple[str, ...]

    def configuration(self) -> str:
        """Text of the containers.conf(5) that replaces all of the host's own."""
        return "\n".join(
            (
                "[containers]",
                'base_hosts_file = "none"',
                "default_sysctls = []",
                f"default_ulimits = {json.dumps(self.ulimits)}",
                "http_proxy = false",
                "pids_limit = 0",
                "[engine]",
                # nothing of systemd is in the fabric, whatever the host runs
                'cgroup_manager = "cgroupfs"',
                'events_logger = "none"',
                f"runtime = {json.dumps(self.runtime)}",
                "",
            )
        )


def _which(program: str) -> str | None:
    return shutil.which(program, path=PATH)


def _limit(number: int, most: int) -> int:
    _, hard = resource.getrlimit(number)
    return min(_NO_LIMIT if hard == resource.RLIM_INFINITY else hard, most)


def find_engine(cgroups: Path = _CGROUPS) -> Engine | None:
    """Find a runtime that works here, and limits that it may set; None: there is none."""
    is_privileged = privilege.is_privileged()
    unified = cgroups / "unified"
    is_hybrid = (
        not (cgroups / "cgroup.controllers").exists() and (unified / "cgroup.procs").exists()
    )
    files = _limit(resource.RLIMIT_NOFILE, _MOST_FILES)
    processes = _limit(resource.RLIMIT_NPROC, _MOST_PROCESSES)
    # crun first: it comes with Debian's podman, and takes a third less time than runc
    # and runc makes no container without control groups
    for runtime in ("crun", "runc") if is_privileged else ("crun",):
        if _which(runtime):
            return Engine(
                runtime=runtime,
                hide=unified if is_hybrid and runtime == "crun" else None,
                has_control_groups=is_privileged,
                ulimits=(f"nofile={files}:{files}", f"nproc={processes}:{processes}"),
            )
    return None


def problem(what: str, remedy: str, *packages: str) -> Problem:
    """Something that the podman target lacks here; ``packages``: Debian's that cure it."""
    return Problem(who="podman", what=what, remedy=remedy, packages=packages)


def check() -> list[Problem]:
    """List what this host lacks for machines in containers."""
    problems = []

    def lacks(*words: str) -> None:
        lack = problem(*words)
        problems.append(replace(lack, is_own=not lack.packages))

    if not privilege.is_privileged():
        problems += subids.forbidden("podman")
    if not _which("podman"):
        lacks("no podman", "apt-get install podman", "podman")
    elif find_engine() is None:
        which = (
            "neither crun nor runc" if privilege.is_privileged() else "which is crun without root"
        )
        lacks(f"no container runtime, {which}", "apt-get install crun", "crun")
    if importlib.util.find_spec("podman") is None:
        lacks(
            "no podman-py, the Python package 'podman'",
            "python3 -m pip install 'pytest-carthage[podman]'",
        )
        problems[-1] = replace(problems[-1], extra="podman")
    for folder, variable in ((state_root(), "CARTHAGE_STATE"), (images_root(), "CARTHAGE_IMAGES")):
        if _file_system(folder) == "overlay":
            lacks(
                f"{folder} is itself on an overlay, where the kernel allows no second one",
                f"set {variable} to a folder on a disk, as in a container's volume",
            )
    return problems


def refused(plan: Plan, kind: str) -> list[Problem]:
    """What of a plan's machines containers of an ordinary user cannot be: all without a group."""
    machines = [one for one in plan.machines.values() if one.target == kind]
    if privilege.is_privileged():
        return []
    limited = [machine.name for machine in machines if machine.limits is not None]
    booted = [machine.name for machine in machines if machine.init is not None]
    problems = []
    for names, what in ((limited, "limits"), (booted, "systemd")):
        if names:
            problems.append(
                problem(
                    f"{what} (of {', '.join(names)}) need control groups, which containers have "
                    "only from root",
                    'run as root, or on="netns"' if what == "systemd" else "run as root",
                )
            )
    return problems


def _file_system(path: Path) -> str:
    """Type of the file system that a path is on, or would be; see proc_pid_mountinfo(5)."""
    path = Path(os.path.realpath(path))
    best, kind = -1, ""
    try:
        lines: Sequence[str] = Path("/proc/self/mountinfo").read_text().splitlines()
    except OSError:
        return ""
    for line in lines:
        fields = line.split(" ")
        mount = Path(fields[4].replace("\\040", " "))
        if path.is_relative_to(mount) and len(mount.parts) >= best:
            best, kind = len(mount.parts), fields[fields.index("-") + 1]
    return kind
