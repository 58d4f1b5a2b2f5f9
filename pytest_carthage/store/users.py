"""Who uses an image, and who builds one now: processes, as the kernel tells of their claims.

See proc_locks(5).
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pytest_carthage.fabric.host.claim import is_free
from pytest_carthage.store.root import Store

__all__ = ["Building", "User", "building", "users_of"]

_LOCKS = Path("/proc/locks")
_TRIES = 5
_PAUSE_S = 0.01
_LONGEST_COMMAND = 60

#: device (major, minor) and inode of a file
Identity = tuple[int, int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """A process that uses an image."""

    #: None: it is in another container, and has no number here
    pid: int | None
    #: what it was started as; empty: not known
    command: str = ""

    def __str__(self) -> str:
        if self.pid is None:
            return "a process that cannot be seen from here"
        return f"process {self.pid}{f' ({self.command})' if self.command else ''}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Building:
    """A build that is going on now."""

    #: of its claim: what is declared of the layer
    key: str
    #: name of the image; empty: not known
    image: str
    #: how far it is
    text: str
    pid: int | None


def users_of(store: Store, key: str) -> list[User]:
    """Who uses an image, by its top layer; nobody where it is not there."""
    path = store.layers.path(key)
    for _ in range(_TRIES):
        try:
            with store.layers.alone(key) as is_alone:
                if is_alone:
                    return []
            holders = _holders().get(_identity(path.stat()), [])
        except FileNotFoundError:
            return []
        pids = sorted({pid for how, pid in holders if how == "READ"})
        if pids:
            return [User(pid=pid if pid > 0 else None, command=_command(pid)) for pid in pids]
        # somebody else just looks, or removes it
        time.sleep(_PAUSE_S)
    return [User(pid=None)]


def building(store: Store) -> list[Building]:
    """Builds that are going on."""
    builds = []
    holders = _holders()
    for path in store.claims.paths():
        with contextlib.suppress(OSError):
            text, image, *_ = [*path.read_text(errors="replace").split("\n"), "", ""]
            pids = holders.get(_identity(path.stat()), [])
            # where the kernel's list does not show it, trying does
            if any(how == "WRITE" for how, _ in pids) or (text and not is_free(path, shared=True)):
                pid = next((pid for _, pid in pids if pid > 0), None)
                builds.append(Building(key=path.stem, image=image, text=text, pid=pid))
    return builds


def parse_locks(lines: Iterable[str]) -> dict[Identity, list[tuple[str, int]]]:
    """Files to how they are claimed (READ or WRITE) and by which process."""
    holders: dict[Identity, list[tuple[str, int]]] = {}
    for line in lines:
        words = line.split()
        if len(words) < 6 or words[1] != "FLOCK":  # "->" stands before who waits
            continue
        major, minor, inode = words[5].split(":")
        identity = int(major, 16), int(minor, 16), int(inode)
        holders.setdefault(identity, []).append((words[3], int(words[4])))
    return holders


def _holders() -> dict[Identity, list[tuple[str, int]]]:
    try:
        return parse_locks(_LOCKS.read_text().splitlines())
    except OSError:
        return {}


def _identity(status: os.stat_result) -> Identity:
    return os.major(status.st_dev), os.minor(status.st_dev), status.st_ino


def _command(pid: int) -> str:
    """What a process was started as, cut short."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_text(errors="replace").split("\0")
    except OSError:
        return ""
    text = " ".join(" ".join(words).split())
    return text if len(text) <= _LONGEST_COMMAND else f"{text[: _LONGEST_COMMAND - 3]}..."
