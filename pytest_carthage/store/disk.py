"""Files of a store on disk: written whole, brought to the disk itself, measured, deleted."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from pathlib import Path

from pytest_carthage.fabric.syscalls import syncfs

__all__ = ["bytes_on_disk", "delete", "disk_usage", "settle", "settle_names", "write_atomically"]


def write_atomically(path: Path, text: str) -> None:
    """Write a file that others see whole or not at all, also after a power cut."""
    new = path.with_name(f"{path.name}.{os.getpid()}.new")
    with new.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
    settle_names(path.parent)


def settle(folder: Path) -> None:
    """Have all of a folder on the disk itself, with what else is on that file system."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        syncfs(fd)
    finally:
        os.close(fd)


def settle_names(folder: Path) -> None:
    """Have the names in a folder on the disk itself: what was renamed has its new one for good."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def disk_usage(path: Path) -> int:
    """Bytes that a folder takes on disk, with all that is in it; 0: it cannot be told."""
    done = subprocess.run(
        ["du", "-s", "--block-size=1", "--", str(path)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        return int(done.stdout.split()[0])
    except (IndexError, ValueError):
        return 0


def bytes_on_disk(folder: Path) -> int:
    """Bytes that the files of a folder take on disk, without folders in it."""
    total = 0
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_file(follow_symlinks=False):
                total += entry.stat(follow_symlinks=False).st_blocks * 512
    return total


def delete(path: Path) -> None:
    """Delete a folder, also one with files of other users of a user namespace."""
    try:
        while path.exists():
            with contextlib.suppress(FileNotFoundError):  # another process deletes it, too
                shutil.rmtree(path)
    except PermissionError:
        subprocess.run(
            ["unshare", "--map-root-user", "--map-auto", "rm", "-rf", "--", str(path)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
