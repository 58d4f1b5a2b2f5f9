"""Disks that are full: how that is recognised, and what to do about it."""

from __future__ import annotations

import errno
import os
import re
import shutil
from pathlib import Path

__all__ = ["advice", "free_space", "is_full", "of_state", "remedy"]

_SAID = re.compile(
    rf"{os.strerror(errno.ENOSPC)}|{os.strerror(errno.EDQUOT)}|not enough free space"
    r"|don't have enough",
    re.IGNORECASE,
)


def is_full(cause: object) -> bool:
    """Whether it was a full disk, by an error or by what a program said."""
    if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    return _SAID.search(str(cause)) is not None


def free_space(*places: Path) -> str:
    """How much is free where folders are or would be: ``/srv has 12 MiB free``."""
    rows = []
    for place in dict.fromkeys(places):
        there = next(folder for folder in (place, *place.parents) if folder.exists())
        rows.append(f"{place} has {shutil.disk_usage(there).free >> 20} MiB free")
    return ", ".join(rows) or "a disk is full"


def remedy(*places: Path) -> str:
    """What to tell where one of these is full."""
    return (
        f"{free_space(*places)}; try: free some (in the store of images, pytest-carthage images "
        "gc does), or another disk (CARTHAGE_IMAGES is where that store is)"
    )


def advice(cause: object, *places: Path) -> str:
    """The remedy where the cause is a full disk; empty where it is another one."""
    return remedy(*places) if is_full(cause) else ""


def of_state(cause: object, folder: Path) -> str:
    """What to add to an error where an environment's disk is full; empty: it is not, or it says so.

    :param folder: of the environment.
    """
    if not is_full(cause) or "MiB free" in str(cause):
        return ""
    return f"; {free_space(folder)}; try: free some, or set CARTHAGE_STATE to a folder elsewhere"
