"""Hashes of what bases are made of, remembered as long as nothing about the files changes."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from pytest_carthage import clock
from pytest_carthage.errors import BuildError
from pytest_carthage.store.disk import write_atomically
from pytest_carthage.store.root import images_root

__all__ = ["content_hash"]

#: what is smaller is read again each time
_WORTH_KEEPING = 1 << 20
_MOST = 256
#: a file that was changed more recently may be changed again without a difference in its times
_SETTLED_S = 2.0


def content_hash(path: Path, who: str) -> str:
    """SHA-256 of a file, or of all that is in a folder: names, kinds, owners, modes, contents.

    :raises BuildError: it is not there, or cannot be read.
    """
    try:
        entries = list(_entries(path))
        size = sum(entry.st_size for _, entry in entries)
        state = _state(entries)
        is_settled = max(entry.st_ctime for _, entry in entries) < clock.unix_s() - _SETTLED_S
        if size < _WORTH_KEEPING and len(entries) < 100:
            return _hash(path, entries)
        remembered = _load()
        if (row := remembered.get(str(path))) and row[0] == state:
            return row[1]
        digest = _hash(path, entries)
        if is_settled:
            _remember(str(path), state, digest)
        return digest
    except FileNotFoundError as error:
        raise BuildError(
            f"{who}: {error.filename} is not there; try: another path, which is of the folder "
            "of the file in which it is written"
        ) from error
    except OSError as error:
        raise BuildError(
            f"{who}: {error.filename or path} cannot be read: {error.strerror}; "
            "try: chmod, or as another user"
        ) from error


def _entries(path: Path) -> Iterator[tuple[str, os.stat_result]]:
    """All that is in a folder, sorted, or one file; as it is, but the first is followed."""
    first = path.stat()
    yield "", first
    if not stat.S_ISDIR(first.st_mode):
        return
    waiting = [""]
    while waiting:
        folder = waiting.pop()
        with os.scandir(path / folder) as listing:
            for entry in sorted(listing, key=lambda entry: entry.name):
                name = f"{folder}/{entry.name}" if folder else entry.name
                yield name, entry.stat(follow_symlinks=False)
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(name)


def _state(entries: list[tuple[str, os.stat_result]]) -> str:
    """What changes whenever a file may have changed."""
    text = hashlib.sha256()
    for name, entry in entries:
        row = (entry.st_size, entry.st_mtime_ns, entry.st_ctime_ns, entry.st_ino, entry.st_mode)
        text.update(f"{name}\0{row}{entry.st_uid} {entry.st_gid}\0".encode(errors="replace"))
    return text.hexdigest()


def _hash(path: Path, entries: list[tuple[str, os.stat_result]]) -> str:
    if not stat.S_ISDIR(entries[0][1].st_mode):
        return _file_hash(path)
    text = hashlib.sha256()
    for name, entry in entries:
        mode = entry.st_mode
        if stat.S_ISLNK(mode):
            content = str((path / name).readlink())
        elif stat.S_ISREG(mode):
            content = _file_hash(path / name)
        else:
            content = str(entry.st_rdev)
        row = f"{name}\0{mode:o} {entry.st_uid} {entry.st_gid}\0{content}\0"
        text.update(row.encode(errors="surrogateescape"))
    return text.hexdigest()


def _file_hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _load() -> dict[str, list[str]]:
    try:
        rows = json.loads((images_root() / "hashes.json").read_bytes())
        return {str(path): [str(state), str(digest)] for path, (state, digest) in rows.items()}
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return {}


def _remember(path: str, state: str, digest: str) -> None:
    others = {name: row for name, row in _load().items() if name != path}
    others[path] = [state, digest]
    if not images_root().is_dir():
        return  # who only looks, before the first build, leaves nothing
    with contextlib.suppress(OSError):  # nothing but time is lost
        kept = dict(list(others.items())[-_MOST:])
        write_atomically(images_root() / "hashes.json", json.dumps(kept))
