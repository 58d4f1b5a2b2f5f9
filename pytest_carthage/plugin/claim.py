"""A run's name belongs to one session at a time."""

from __future__ import annotations

import fcntl
import os
import zlib

import pytest

from pytest_carthage.state import places

__all__ = ["claim"]


def claim(config: pytest.Config, name: str) -> None:
    """Claim a name that a person chose, until this process ends.

    The claim is a record lock on one byte of ``runs/.names`` (fcntl(2)), so that it ends with
    this process, however that ends, and leaves nothing behind.

    :raises pytest.UsageError: another session has it, or something of it is still alive.
    """
    try:
        path = places.runs_root() / ".names"
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise pytest.UsageError(
            f"--carthage-name={name}: no place for its state: {error}"
        ) from error
    try:
        fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, zlib.crc32(name.encode()))
    except OSError as error:
        os.close(fd)
        raise pytest.UsageError(
            f"--carthage-name={name}: another session of yours has this name now; "
            "choose another name, or wait until that one has ended"
        ) from error
    config.add_cleanup(lambda: os.close(fd))
    if places.run_folders(path.parent, name):
        _refuse_what_lives(name)


def _refuse_what_lives(name: str) -> None:
    from pytest_carthage.state import listing

    there = listing.living_run(name)
    if there:
        raise pytest.UsageError(
            f"--carthage-name={name}: the run of this name still has: {', '.join(there)}; "
            f"choose another name, or remove it with: pytest-carthage rm {there[0]}"
        )
    if there is not None:
        raise pytest.UsageError(
            f"--carthage-name={name}: the supervisor of the run of this name does not end "
            f"({listing.ENDING_S:g} s waited); choose another name"
        )
