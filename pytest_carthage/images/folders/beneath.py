"""A folder that is known by its descriptor, and what is in it: symbolic links lead nowhere else.

Each step of a path is an openat(2) with ``O_NOFOLLOW`` from the one before. Where a caller wants
links followed, they are read, and their steps are walked the same way, as in a root of its own.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Iterator
from typing import TypeAlias

__all__ = ["FOLDER", "Beneath", "Outside", "Path", "remove", "steps"]

#: a folder itself, and no link to one
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
#: as the kernel, see path_resolution(7)
_MOST_LINKS = 40

#: steps from the folder, see :func:`steps`
Path: TypeAlias = tuple[str, ...]


class Outside(ValueError):
    """A name in a tar leads out of the folder."""


def steps(name: str) -> Path:
    """The steps of a name in a tar; none: the folder itself.

    :raises Outside: it has ``..`` among them.
    """
    parts = tuple(part for part in name.split("/") if part not in ("", "."))
    if ".." in parts:
        raise Outside(name)
    return parts


class Beneath:
    """A folder and what is in it.

    :param fd: descriptor of the folder, which stays the caller's.
    """

    def __init__(self, fd: int) -> None:
        self.fd = fd
        #: the folder that was used last: most members of a tar are beside the one before
        self._last: tuple[Path, int] | None = None

    def close(self) -> None:
        """Close what was opened on the way."""
        if self._last is not None:
            os.close(self._last[1])
        self._last = None

    def real(self, path: Path) -> Path:
        """The path without links, which are walked as in a root of its own.

        :raises OSError: ELOOP, there are too many.
        """
        ahead, there, count = list(reversed(path)), list[str](), 0
        while ahead:
            step = ahead.pop()
            if step == "..":
                there = there[:-1]
                continue
            target = self._target((*there, step))
            if target is None:
                there.append(step)
                continue
            count += 1
            if count > _MOST_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), f"/{'/'.join(path)}")
            there = [] if target.startswith("/") else there
            ahead += [part for part in reversed(target.split("/")) if part not in ("", ".")]
        return tuple(there)

    def _target(self, path: Path) -> str | None:
        """What a symbolic link says; None: there is no link."""
        try:
            return os.readlink(path[-1], dir_fd=self.folder(path[:-1]))
        except OSError as error:
            if error.errno in (errno.EINVAL, errno.ENOENT, errno.ENOTDIR):
                return None
            raise

    def folder(self, path: Path) -> int:
        """Descriptor of a folder, without any link on the way; good until the next call.

        :raises OSError: it is not there, or is no folder.
        """
        if not path:
            return self.fd
        if self._last is not None and self._last[0] == path:
            return self._last[1]
        fd = os.dup(self.fd)
        try:
            for step in path:
                above, fd = fd, os.open(step, FOLDER, dir_fd=fd)
                os.close(above)
        except BaseException as error:
            os.close(fd)
            if isinstance(error, OSError):
                error.filename = f"/{'/'.join(path)}"
            raise
        self.close()
        self._last = path, fd
        return fd

    def make(self, path: Path, mode: int = 0o755) -> Iterator[Path]:
        """Make a folder and those above it, where there are none; gives those that were made.

        :raises OSError: ENOTDIR, something else is on the way.
        """
        for length in range(1, len(path) + 1):
            try:
                os.mkdir(path[length - 1], mode, dir_fd=self.folder(path[: length - 1]))
            except FileExistsError:
                continue
            yield path[:length]

    def status(self, path: Path) -> os.stat_result | None:
        """What there is at a path, itself; None: nothing."""
        try:
            if not path:
                return os.fstat(self.fd)
            return os.stat(path[-1], dir_fd=self.folder(path[:-1]), follow_symlinks=False)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                return None
            raise

    def remove(self, path: Path) -> None:
        """Remove what is at a path, with all below it; nothing there is no error."""
        info = self.status(path)
        if info is None:
            return
        above = os.dup(self.folder(path[:-1]))
        try:
            self.close()  # it may lead to what goes
            remove(path[-1], above, info)
        finally:
            os.close(above)


def remove(name: str, folder: int, info: os.stat_result) -> None:
    """Remove something in a folder that is known by its descriptor; links are not followed."""
    if stat.S_ISDIR(info.st_mode):
        shutil.rmtree(name, dir_fd=folder)
    else:
        os.unlink(name, dir_fd=folder)
