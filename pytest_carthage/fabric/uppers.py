"""What machines over the host's files have written: kept in memory while they are stopped.

Each has a file system of its own for the layers above the host's folders, and for ``/tmp``. It is
mounted in the fabric, so that it outlives the machine's mount namespace.
"""

from __future__ import annotations

import errno
import os

from pytest_carthage.fabric import syscalls as sys_

__all__ = ["FOLDER", "folder_of", "furnish", "leave", "mount", "unmount"]

#: where they are mounted
FOLDER = "/run/carthage-uppers"


def furnish() -> None:
    """Make the place for them, which a machine can let go of as a whole."""
    os.mkdir(FOLDER)
    sys_.mount("tmpfs", FOLDER, "tmpfs", sys_.MS_NOSUID | sys_.MS_NODEV, "mode=0700")


def folder_of(machine: str) -> str:
    """Where a machine's are."""
    return f"{FOLDER}/{machine}"


def mount(machine: str) -> None:
    """Have a place for what a machine writes; no-op where there is one.

    :raises OSError: the kernel refused.
    """
    path = folder_of(machine)
    try:
        os.mkdir(path)
    except FileExistsError:
        return
    sys_.mount("tmpfs", path, "tmpfs", sys_.MS_NOSUID | sys_.MS_NODEV, "mode=0700")


def unmount(machine: str) -> None:
    """Forget what a machine has written; no-op where it has nothing.

    :raises OSError: the kernel refused.
    """
    path = folder_of(machine)
    if not os.path.isdir(path):
        return
    try:
        sys_.umount(path)
    except OSError as error:
        if error.errno != errno.EINVAL:  # nothing is mounted there
            raise
    os.rmdir(path)


def leave() -> None:
    """Have none of them in the mount namespace that the caller is in."""
    sys_.umount(FOLDER)
