"""The tests that go into a bundle, and what their tasks read beside them."""

from __future__ import annotations

import fnmatch
import stat
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from pytest_carthage.images.locks.files import files_read, package_of
from pytest_carthage.model.keys.inputs import CACHES

if TYPE_CHECKING:
    from pytest_carthage.store.built import Built

__all__ = ["Suite", "gather"]

#: what comes and goes by itself, or is of one developer only; at the top of the tests, see below
_LEFT_OUT = (*CACHES, ".coverage*", ".hypothesis", ".nox", ".tox", "*.egg-info", "*.pyc", "*.swp")
_LEFT_OUT_ON_TOP = (".git", ".hg", ".svn")


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """The tests that a bundle has."""

    #: what names in the bundle are relative to
    top: Path
    #: the folder of the tests, in which pytest is started
    root: Path
    #: files, folders and links, by their names
    entries: Mapping[str, Path]
    #: read by tasks, and in no bundle
    outside: tuple[Path, ...]


def gather(root: Path, images: Collection[Built], *, without: Iterable[Path]) -> Suite:
    """List what a folder of tests has, and what tasks read beside it.

    :param without: files that are no part of it, as the bundle itself.
    """
    read = sorted({path for built in images for path in files_read(built)})
    # its layer has it, with the owners and permissions that count
    systems = {
        built.image.path.absolute()
        for built in images
        if built.image.kind == "rootfs"
        and built.image.path is not None
        and built.image.path.is_dir()
    }
    left_out = {*(path.absolute() for path in without), *systems}
    read = [path for path in read if path not in systems]
    beside = [path for path in read if not path.is_relative_to(root)]
    near = [path for path in beside if path.is_relative_to(root.parent) and path.exists()]
    top = root.parent if near else root
    entries: dict[str, Path] = {}
    for start, is_tests in [(root, True), *((path, False) for path in near)]:
        for path in _walk(start, root, left_out, is_tests=is_tests):
            entries[path.relative_to(top).as_posix()] = path
    # a task's files count, whatever they are called
    for start in read:
        if start.is_relative_to(root) and start.exists():
            for path in _walk(start, root, set(), is_tests=False):
                entries[path.relative_to(top).as_posix()] = path
    for name in list(entries):
        for parent in list(PurePosixPath(name).parents)[:-1]:
            entries.setdefault(str(parent), top / parent)
    outside = [path for path in beside if path not in near and package_of(path) is None]
    return Suite(
        top=top,
        root=root,
        entries={name: entries[name] for name in sorted(entries) if name != "."},
        outside=tuple(outside),
    )


def _walk(start: Path, root: Path, without: Collection[Path], *, is_tests: bool) -> Iterator[Path]:
    """A file, or a folder with all that is in it but caches."""
    if start in without:
        return
    yield start
    if start.is_symlink() or not start.is_dir():
        return
    for entry in sorted(start.iterdir()):
        left_out = list(_LEFT_OUT if is_tests else CACHES)
        left_out += _LEFT_OUT_ON_TOP if start == root else []
        if any(fnmatch.fnmatchcase(entry.name, pattern) for pattern in left_out):
            continue
        if is_tests and (entry / "pyvenv.cfg").exists():
            continue
        kind = entry.lstat().st_mode
        if stat.S_ISREG(kind) or stat.S_ISDIR(kind) or stat.S_ISLNK(kind):
            yield from _walk(entry, root, without, is_tests=is_tests)
