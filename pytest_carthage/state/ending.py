"""What the end of a fabric leaves on this host: processes, control groups and folders.

Standard library only: a child of the supervisor removes it, and whoever cleans up after a
supervisor that was killed.
"""

from __future__ import annotations

import os
import select
from typing import TYPE_CHECKING

from pytest_carthage import clock
from pytest_carthage.fabric import limits
from pytest_carthage.fabric.host import folders
from pytest_carthage.state import cgroups, journal
from pytest_carthage.state.sweeping import Failed, Sweep

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

__all__ = ["await_end", "clean", "remove_remains", "remove_run"]

_END_S = 10.0


def await_end(processes: Iterable[int]) -> str:
    """Wait for the end of processes that were killed; returns what is wrong if one stays."""
    deadline = clock.monotonic_s() + _END_S
    for pid in processes:
        try:
            fd = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        try:
            if not select.select([fd], [], [], max(0.0, deadline - clock.monotonic_s()))[0]:
                return f"process {pid} was killed, and has not ended in {_END_S:g} s"
        finally:
            os.close(fd)
    return ""


def remove_remains(run: str, folder: Path, name: str, *, keep: bool = False) -> str:
    """Remove control groups and the folder of an environment; returns what is wrong, or nothing.

    :param run: identity of the run, see :func:`.places.run_id`.
    :param folder: of the run.
    :param keep: leave the folder, for those who have to destroy what is left.
    """
    group = limits.control_group(run, name)
    try:
        problem = "" if cgroups.remove(group) else f"control group {group} is in use"
    except ValueError as error:
        return f"control group {error}, and is left alone"
    return problem or ("" if keep else folders.remove(folder, "envs", name))


def clean(run: str, folder: Path, sweep: Sweep, environments: Iterable[str]) -> list[Failed]:
    """Sweep, and remove what environments have left that are dead; returns what is left.

    :param folder: of the run.
    """
    failed = sweep.run()
    needed = {identity["environment"] for identity, _ in failed}
    for name in environments:
        keep = name in needed
        problem = remove_remains(run, folder, name, keep=keep)
        if problem:
            failed.append(Failed(journal.fabric(run, name), problem))
    return failed


def remove_run(folder: Path) -> str:
    """Remove the folder of a run with all that is in it; returns what is wrong, or nothing."""
    return folders.remove(folder.parent, folder.name)
