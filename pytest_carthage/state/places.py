"""Where runs are kept on disk. Standard library only: the supervisor uses it, too."""

from __future__ import annotations

import os
from pathlib import Path


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
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    owner = folder.stat().st_uid
    if owner != os.geteuid():
        raise PermissionError(
            f"{folder} belongs to user {owner}, not to {os.geteuid()}; "
            "set CARTHAGE_STATE to a folder of your own"
        )
    return folder
