"""Where runs are kept on disk. Standard library only: the supervisor uses it, too."""

from __future__ import annotations

import os
from pathlib import Path

#: with less than this, the state of an environment may not fit
_LEAST_KIB = 64


def state_root() -> Path:
    """Folder of all runs of this user: ``$CARTHAGE_STATE`` or the system's place for state."""
    chosen = os.environ.get("CARTHAGE_STATE")
    if chosen:
        return Path(chosen).absolute()
    if os.geteuid() == 0:
        return Path("/var/lib/pytest-carthage")
    base = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    if not os.path.isabs(base):  # no home at all
        base = f"/tmp/pytest-carthage-{os.geteuid()}"
    return Path(base) / "pytest-carthage"


def runs_root() -> Path:
    """Folder of the runs; made where it is missing, for this user alone.

    :raises PermissionError: it exists and belongs to somebody else.
    """
    folder = state_root() / "runs"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise type(error)(
            error.errno, f"{error.strerror} (set CARTHAGE_STATE to a folder of your own)", folder
        ) from error
    owner = folder.stat().st_uid
    if owner != os.geteuid():
        raise PermissionError(
            f"{folder} belongs to user {owner}, not to {os.geteuid()}; "
            "set CARTHAGE_STATE to a folder of your own"
        )
    return folder


def lack_of_space() -> str:
    """What to tell a person when the file system of the state is full; empty: it is not."""
    root = state_root()
    there = next(folder for folder in (root, *root.parents) if os.path.exists(folder))
    try:
        free = os.statvfs(there)
    except OSError:
        return ""
    kib = free.f_bavail * free.f_frsize // 1024
    if kib >= _LEAST_KIB and (free.f_favail or not free.f_files):
        return ""
    return (
        f"no space left for state in {there} ({kib} KiB, {free.f_favail} files); "
        "try: free some, or set CARTHAGE_STATE to a folder on another disk"
    )
