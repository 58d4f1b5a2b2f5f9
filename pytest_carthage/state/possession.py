"""Who has a run's folder: its supervisor, who cleans up after a dead one, and who uses it.

A run's folder belongs to whoever has locked its file ``lock`` (flock(2)). Its clients have locked
its file ``users`` together. A folder is born while its maker has locked ``.starting`` of the runs:
one that nobody has is a dead run's, if that is looked at under the same lock. All of these end
with the process that has them, however that ends. Standard library only: the supervisor uses it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from typing import TYPE_CHECKING

from pytest_carthage import clock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["gate", "is_alive", "is_used", "locked", "owner", "take", "use"]

#: how long the lock of a run is tried for: who only looks has it for an instant
_LOOK_S = 0.2
#: how long a run may take to be born
_BIRTH_S = 5.0
_POLL_S = 0.005
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC


def is_alive(folder: Path) -> bool:
    """Whether somebody has a run's folder: its supervisor, or who cleans up after one."""
    return _is_locked(folder / "lock")


def is_used(folder: Path) -> bool:
    """Whether a client of a run is there, be its supervisor alive or not."""
    return _is_locked(folder / "users")


def _is_locked(path: Path) -> bool:
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return False
    try:
        # shared: who looks at the same time is no owner; of users it is the other way round
        fcntl.flock(fd, (fcntl.LOCK_EX if path.name == "users" else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        return False
    finally:
        os.close(fd)


def owner(folder: Path) -> str:
    """Process id of a run's supervisor, as it wrote it into its lock."""
    try:
        return (folder / "lock").read_text() or "?"
    except OSError:
        return "?"


def gate(root: Path) -> int:
    """Open what those lock that make a run, or look whether one is dead; returns a descriptor."""
    return os.open(root / ".starting", _FLAGS, 0o600)


def take(folder: Path) -> int:
    """Have a folder that was just made, until the descriptor that is returned is closed."""
    fd = os.open(folder / "lock", _FLAGS, 0o600)
    fcntl.flock(fd, fcntl.LOCK_EX)  # who only looks has it for an instant
    os.pwrite(fd, str(os.getpid()).encode(), 0)
    return fd


def use(folder: Path) -> int:
    """Be one of a run's users, until the descriptor that is returned is closed.

    :raises OSError: the run is gone.
    """
    fd = os.open(folder / "users", _FLAGS, 0o600)
    fcntl.flock(fd, fcntl.LOCK_SH)
    return fd


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[bool]:
    """Have a run's folder while the block runs; yields False if somebody else has it."""
    fd = _lock(folder)
    try:
        yield fd is not None
    finally:
        if fd is not None:
            os.close(fd)


def _lock(folder: Path) -> int | None:
    try:
        born = gate(folder.parent)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        if not _try(born, fcntl.LOCK_EX, _BIRTH_S):
            return None
        fd = os.open(folder / "lock", _FLAGS, 0o600)
    except (FileNotFoundError, NotADirectoryError):
        return None
    finally:
        os.close(born)
    if _try(fd, fcntl.LOCK_EX, _LOOK_S):
        return fd
    os.close(fd)
    return None


def _try(fd: int, kind: int, limit_s: float) -> bool:
    deadline = clock.monotonic_s() + limit_s
    while True:
        try:
            fcntl.flock(fd, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            if clock.monotonic_s() > deadline:
                return False
            time.sleep(_POLL_S)
        else:
            return True
