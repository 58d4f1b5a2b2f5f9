"""Files of the host that a task has read, and what they were: whether they changed is seen later.

A file's hash is that of its content and of its permissions; a folder's, of all that is in it by
name, and of what its links lead to. Times do not count, nor whether others than the owner may
write, which is the umask's doing, nor what Python and its tools keep beside their sources.
"""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["CACHES", "Inputs", "changed", "hash_of", "near", "program_of"]

#: folders that come and go by themselves, and count for nothing
CACHES = frozenset({"__pycache__", ".mypy_cache", ".pytest_cache", ".ruff_cache"})

#: names of inputs that are no files, but versions of programs
_PROGRAM = "program:"
#: of a hash that no file has
_EDITED = " edited while it was read"


class Inputs:
    """What one task has read so far."""

    def __init__(self, anchor: Path) -> None:
        #: paths below this folder are told from there
        self.anchor = anchor
        #: path to hash
        self.found: dict[str, str] = {}
        self._stamps: dict[str, object] = {}

    def add(self, path: Path) -> None:
        """Take in a file or a folder that is read, or that would be if it were there."""
        name = near(path, self.anchor)
        if not self.found.get(name):
            self._stamps[name] = _stamp(path)
            self.found[name] = hash_of(path)

    def add_program(self, name: str, version: str) -> None:
        """Take in the version of a program of the host that a task has used."""
        self.found[_PROGRAM + name] = version

    def settle(self) -> None:
        """Look whether anything was edited meanwhile: nobody knows which text was read then."""
        for name, stamp in self._stamps.items():
            if _stamp(self.anchor / name) != stamp:
                self.found[name] += _EDITED


def changed(inputs: Mapping[str, str], anchor: Path, programs: Mapping[str, str]) -> list[str]:
    """Which of these inputs are no longer what they were.

    :param programs: name to version, of programs that may be among them.
    """
    changes = []
    for name, before in inputs.items():
        if name.startswith(_PROGRAM):
            program = name.removeprefix(_PROGRAM)
            now = programs.get(program, "")
        else:
            program, now = name, hash_of(anchor / name)
        if now != before:
            changes.append(program)
    return changes


def hash_of(path: Path) -> str:
    """Hash of a file or folder; empty where there is none, or it may not be read."""
    try:
        kind = path.stat().st_mode
        if stat.S_ISDIR(kind):
            return _hash_of_folder(path, kind, frozenset())
        if not stat.S_ISREG(kind):  # to open a pipe would wait for whoever writes
            return "special"
        return _hash_of_file(path, kind)
    except OSError:
        return ""


def _hash_of_file(path: Path, mode: int) -> str:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    bits = _bits(mode)
    return digest if bits == 0o644 else f"{digest}x" if bits == 0o755 else f"{digest}-{bits:o}"


def _bits(mode: int) -> int:
    """Permissions that count."""
    return stat.S_IMODE(mode) & ~(stat.S_IWGRP | stat.S_IWOTH) | stat.S_IRUSR | stat.S_IWUSR


def _stamp(path: Path) -> object:
    """What tells an edit, without reading all of it; None: there is no such file."""
    try:
        stamps = [_stamp_of(path.stat())]
        for place, folders, files in os.walk(path):
            folders[:] = sorted(name for name in folders if name not in CACHES)
            stamps += [
                (name, *_stamp_of(os.lstat(f"{place}/{name}")))
                for name in (*folders, *sorted(files))
            ]
    except OSError:
        return None
    return stamps


def _stamp_of(status: os.stat_result) -> tuple[object, ...]:
    if stat.S_ISDIR(status.st_mode):  # its own time changes with what does not count
        return (status.st_mode,)
    return (status.st_mode, status.st_ino, status.st_size, status.st_mtime_ns)


def _hash_of_folder(folder: Path, mode: int, around: frozenset[str]) -> str:
    """Hash of a folder.

    :param around: real paths of folders that have led here.
    """
    real = os.path.realpath(folder)
    around |= {real}
    digest = hashlib.sha256(b"" if _bits(mode) == 0o755 else f"{_bits(mode):o}".encode())
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if name not in CACHES)
        for name in sorted((*files, *folders)):
            path = Path(place, name)
            mode = path.lstat().st_mode
            if stat.S_ISLNK(mode):
                description = f"link {path.readlink()}{_behind(path, real, around)}"
            elif stat.S_ISDIR(mode):
                bits = _bits(mode)
                description = "folder" if bits == 0o755 else f"folder {bits:o}"
            elif stat.S_ISREG(mode):
                description = _hash_of_file(path, mode)
            else:
                description = "special"
            digest.update(
                f"{path.relative_to(folder)}\0{description}\0".encode(errors="surrogateescape")
            )
    return digest.hexdigest()


def _behind(link: Path, folder: str, around: frozenset[str]) -> str:
    """Hash of what a link leads to, where that is outside of the folder."""
    try:
        target = link.resolve()
        mode = target.stat().st_mode
    except (OSError, RuntimeError):  # nowhere, or in a circle
        return ""
    if target.is_relative_to(folder) or str(target) in around:
        return ""
    if stat.S_ISDIR(mode):
        return f" {_hash_of_folder(target, mode, around)}"
    return f" {_hash_of_file(target, mode)}" if stat.S_ISREG(mode) else ""


def program_of(name: str) -> str | None:
    """The program whose version an input is; None: it is a file."""
    return name.removeprefix(_PROGRAM) if name.startswith(_PROGRAM) else None


def near(path: Path, anchor: Path) -> str:
    """A path from a task's folder where it is near, so that both may be moved together."""
    full = Path(os.path.abspath(path))  # noqa: PTH100  links are not followed
    for folder in (anchor, anchor.parent):
        if full.is_relative_to(folder):
            return os.path.relpath(full, anchor)
    return str(full)
