"""What is in a folder takes the place of what is in another, as an overlay of the two shows it."""

from __future__ import annotations

import contextlib
import os
import stat
from dataclasses import dataclass, field

from pytest_carthage.images.folders.beneath import FOLDER, Path, remove

__all__ = ["Marks", "merge"]


@dataclass(slots=True, kw_only=True)
class Marks:
    """What a layer says of what is below it; paths are without links on the way."""

    #: what is there no more
    gone: set[Path] = field(default_factory=set)
    #: folders of which nothing is left
    opaque: set[Path] = field(default_factory=set)
    #: folders of which it says nothing: they are as they are below
    implicit: set[Path] = field(default_factory=lambda: {()})

    def is_gone(self, path: Path) -> bool:
        """Whether a path, or a folder that it is in, is there no more."""
        return any(path[:length] in self.gone for length in range(1, len(path) + 1))

    def forget(self, path: Path) -> None:
        """Forget what was said of a path but that it is gone, and of what is in it."""
        self.gone = {other for other in self.gone if other == path or not _is_in(other, path)}
        self.opaque = {other for other in self.opaque if not _is_in(other, path)}
        self.implicit = {other for other in self.implicit if not _is_in(other, path)}


def _is_in(path: Path, folder: Path) -> bool:
    return path[: len(folder)] == folder


def merge(above: int, below: int, marks: Marks) -> None:
    """Move what is in one folder into another.

    :param above: descriptor of the folder that is emptied.
    :param below: of the other, on the same file system.
    """
    gone: dict[Path, list[str]] = {}
    for path in marks.gone:
        gone.setdefault(path[:-1], []).append(path[-1])
    _merge((), above, below, marks, gone)


def _merge(path: Path, above: int, below: int, marks: Marks, gone: dict[Path, list[str]]) -> None:
    upper, lower = os.fstat(above), os.fstat(below)
    for name in os.listdir(below) if path in marks.opaque else gone.get(path, ()):
        _remove(name, below)
    for name in sorted(os.listdir(above)):
        info = os.stat(name, dir_fd=above, follow_symlinks=False)
        if stat.S_ISDIR(info.st_mode) and _is_folder(name, below):
            inner = os.open(name, FOLDER, dir_fd=above)
            try:
                under = os.open(name, FOLDER, dir_fd=below)
                try:
                    _merge((*path, name), inner, under, marks, gone)
                finally:
                    os.close(under)
            finally:
                os.close(inner)
        else:
            _remove(name, below)
            os.rename(name, name, src_dir_fd=above, dst_dir_fd=below)
    if path not in marks.implicit:
        _be_like(below, above, upper)
        lower = upper
    os.utime(below, ns=(lower.st_mtime_ns, lower.st_mtime_ns))


def _be_like(folder: int, other: int, info: os.stat_result) -> None:
    """Give a folder the owner, the permissions and the attributes of another."""
    os.fchown(folder, info.st_uid, info.st_gid)
    os.fchmod(folder, stat.S_IMODE(info.st_mode))
    there = set(os.listxattr(other))
    for name in there.union(os.listxattr(folder)):
        # not where it is a label that the host itself gives, as SELinux does
        with contextlib.suppress(OSError):
            if name in there:
                os.setxattr(folder, name, os.getxattr(other, name))
            else:
                os.removexattr(folder, name)


def _is_folder(name: str, above: int) -> bool:
    try:
        return stat.S_ISDIR(os.stat(name, dir_fd=above, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return False


def _remove(name: str, above: int) -> None:
    try:
        info = os.stat(name, dir_fd=above, follow_symlinks=False)
    except FileNotFoundError:
        return
    remove(name, above, info)
