"""Control groups that engines leave behind when they are killed. Standard library only."""

from __future__ import annotations

import os
import signal
import subprocess
import time

from pytest_carthage import clock
from pytest_carthage.fabric.container import groups
from pytest_carthage.fabric.host.namespaces import as_root_of_files

_ROOT = "/sys/fs/cgroup"


def roots() -> list[str]:
    """Folders under which control groups are found: one per v1 hierarchy, or the v2 tree."""
    if os.path.exists(f"{_ROOT}/cgroup.controllers"):
        return [_ROOT]
    try:
        names = os.listdir(_ROOT)
    except OSError:
        return []
    return [f"{_ROOT}/{name}" for name in names if os.path.isdir(f"{_ROOT}/{name}")]


def find(path: str) -> list[str]:
    """Folders of a control group such as ``/pytest-carthage-x``, in every hierarchy.

    :raises ValueError: it is none of ours.
    """
    if not groups.is_ours(path):
        raise ValueError(f"{path!r:.200} is none of ours")
    tops = dict.fromkeys([*roots(), *groups.tops().values()])
    return [top + path for top in tops if os.path.isdir(top + path)]


def remove(path: str, timeout_s: float = 5.0) -> bool:
    """Remove a control group and those below it; returns whether none is left.

    Processes that are still in it are killed: it is ours alone by its name, which holds the
    environment's name.

    :raises ValueError: it is none of ours.
    """
    deadline = clock.monotonic_s() + timeout_s
    while True:
        left = False
        for top in find(path):
            for folder, _, _ in os.walk(top, topdown=False):
                try:
                    os.rmdir(folder)
                except FileNotFoundError:
                    continue
                except PermissionError:
                    left = True
                    _remove_of_machine(top)
                    break
                except OSError:
                    left = True
                    _kill(folder)
        if not left or clock.monotonic_s() > deadline:
            return not left
        time.sleep(0.01)  # the kernel tells nobody when a v1 group has become empty


def _remove_of_machine(top: str) -> None:
    """Remove groups that users of a machine own, whose ids are this user's subordinate ones."""
    if os.geteuid() != 0:
        subprocess.run(
            as_root_of_files(["find", top, "-depth", "-type", "d", "-exec", "rmdir", "{}", ";"]),
            stdin=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=False,
        )


def _kill(folder: str) -> None:
    try:
        with open(f"{folder}/cgroup.procs") as file:
            pids = [int(line) for line in file]
    except OSError:
        return
    for pid in pids:
        try:
            if pid > 0:
                os.kill(pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            continue  # of a machine's user: it ends with the machine
