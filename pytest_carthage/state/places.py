"""Where runs are kept on disk. Standard library only: the supervisor uses it, too."""

from __future__ import annotations

import os
from pathlib import Path

from pytest_carthage.fabric.host import ownership

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
        base = ownership.homeless()
    return Path(base) / "pytest-carthage"


def runs_root() -> Path:
    """Folder of the runs; made where it is missing, for this user alone.

    :raises PermissionError: it exists and belongs to somebody else.
    """
    return own_folder("runs")


def own_folder(name: str = "") -> Path:
    """A folder of our state, or that of all state; made where it is missing, for this user alone.

    :raises PermissionError: it exists and belongs to somebody else.
    """
    folder = state_root() / name
    try:
        ownership.make(str(folder), "CARTHAGE_STATE")
    except OSError as error:
        if error.errno is None:
            raise
        raise type(error)(
            error.errno, f"{error.strerror} (set CARTHAGE_STATE to a folder of your own)", folder
        ) from error
    return folder


def run_folders(root: Path, name: str) -> list[Path]:
    """Folders of runs of one name, the oldest first: all but one hold what is left of dead ones.

    :param root: what :func:`runs_root` returns.
    """
    plain = root / name
    further = [path for path in root.glob(f"{name}.*") if path.suffix[1:].isdecimal()]
    further.sort(key=lambda path: int(path.suffix[1:]))
    return [*([plain] if plain.is_dir() else []), *further]


def new_run_folder(root: Path, name: str) -> Path:
    """A folder that a run of this name can have: the name itself, or with a number where that is
    taken by what could not be destroyed of an earlier run.
    """
    path, number = root / name, 1
    while os.path.lexists(path):
        number += 1
        path = root / f"{name}.{number}"
    return path


def run_name(folder: Path) -> str:
    """Name of the run in a folder."""
    stem, dot, number = folder.name.rpartition(".")
    return stem if dot and number.isdecimal() else folder.name


def run_id(folder: Path) -> str:
    """What tells the run in a folder from all others; empty where it never began."""
    try:
        text = (folder / "id").read_text().strip()
    except (OSError, ValueError):
        return ""
    return text if text.isalnum() and text.isascii() else ""


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
