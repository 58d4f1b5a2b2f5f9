"""A file system in memory whose files are opened as real descriptors."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import TypeAlias, TypeVar

from pytest_carthage import clock

__all__ = ["Accounts", "Tree"]

#: as many links on the way are followed as the kernel follows, see path_resolution(7)
_MOST_LINKS = 40
_FIRST_UID = 1000
K = TypeVar("K")


class Accounts:
    """Users of a machine, by name and number; who is asked for is there."""

    def __init__(self) -> None:
        self._numbers = {"root": 0}

    def uid(self, user: str) -> int:
        """The number of a user; a number stands for itself."""
        if user.isdecimal():
            return int(user)
        return self._numbers.setdefault(user, _FIRST_UID + len(self._numbers) - 1)

    def name(self, uid: int) -> str:
        """The name of a user; without one, its number."""
        names = {number: name for name, number in self._numbers.items()}
        return names.get(uid, str(uid))


class _File:
    """Content, in a file of the kernel's that has no name anywhere."""

    def __init__(self) -> None:
        self.fd = os.memfd_create("carthage-fake", os.MFD_CLOEXEC)
        #: hard links
        self.names = 1

    def open(self, flags: int) -> int:
        """A descriptor of its own, with an offset of its own."""
        kept = flags & (os.O_ACCMODE | os.O_TRUNC | os.O_APPEND | os.O_NONBLOCK)
        return os.open(f"/proc/self/fd/{self.fd}", kept | os.O_CLOEXEC)

    def __deepcopy__(self, memo: dict[int, object]) -> _File:
        copy = _File()
        copy.names = self.names
        offset, size = 0, os.fstat(self.fd).st_size
        while offset < size:
            offset += os.sendfile(copy.fd, self.fd, offset, size - offset)
        os.lseek(copy.fd, 0, os.SEEK_SET)
        memo[id(self)] = copy
        return copy

    def close(self) -> None:
        """One name less; without any, it is gone."""
        self.names -= 1
        if not self.names:
            os.close(self.fd)


@dataclass(slots=True)
class _Link:
    target: str


_Names: TypeAlias = "dict[str, _Node]"


@dataclass(slots=True)
class _Node:
    """One file, folder or link, and whose it is."""

    content: _File | _Link | _Names
    mode: int
    uid: int = 0
    gid: int = 0
    mtime_ns: int = field(default_factory=lambda: int(clock.unix_s() * 10**9))
    #: extended ones, see xattr(7)
    attributes: dict[str, bytes] = field(default_factory=dict)

    @property
    def kind(self) -> int:
        if isinstance(self.content, dict):
            return stat.S_IFDIR
        return stat.S_IFREG if isinstance(self.content, _File) else stat.S_IFLNK


def _error(number: int, path: str) -> OSError:
    return OSError(number, os.strerror(number), path)


class Tree:
    """The files of a fake machine; paths are absolute. Errors are the kernel's own.

    Permissions are kept and told, and never in the way.
    """

    def __init__(self, accounts: Accounts | None = None) -> None:
        self.accounts = accounts or Accounts()
        self._root = _Node({}, 0o755)
        for folder in ("/etc", "/root", "/run", "/srv", "/tmp", "/var/log"):
            self.mkdirs(folder)

    # finding

    def _find(self, path: str, *, follow: bool = True) -> _Node:
        """The node at a path.

        :raises OSError: ENOENT, ENOTDIR or ELOOP.
        """
        folder, name = self._parent(path, follow=follow)
        if not name:
            return folder
        assert isinstance(folder.content, dict)
        if name not in folder.content:
            raise _error(errno.ENOENT, path)
        return folder.content[name]

    def _parent(self, path: str, *, follow: bool) -> tuple[_Node, str]:
        """The folder that a path's last name is, or would be, in; no name: it is the root."""
        if not path.startswith("/"):
            raise ValueError(f"{path!r} is no absolute path")
        left = [part for part in path.split("/") if part not in ("", ".")]
        links = 0
        walked: list[_Node] = [self._root]
        while left:
            name = left.pop(0)
            folder = walked[-1]
            if not isinstance(folder.content, dict):
                raise _error(errno.ENOTDIR, path)
            if name == "..":
                walked = walked[:-1] or walked
                continue
            node = folder.content.get(name)
            if node is not None and isinstance(node.content, _Link) and (left or follow):
                links += 1
                if links > _MOST_LINKS:
                    raise _error(errno.ELOOP, path)
                target = node.content.target
                if target.startswith("/"):
                    walked = walked[:1]
                left = [part for part in target.split("/") if part not in ("", ".")] + left
                continue
            if not left:
                return folder, name
            if node is None:
                raise _error(errno.ENOENT, path)
            walked.append(node)
        return walked[-1], ""

    # what a machine's endpoint does

    def open(self, path: str, flags: int, mode: int | None = None, user: str | None = None) -> int:
        """Open as open(2) would; returns a descriptor.

        :param mode: permission bits of a file that is made, or that is opened to be made.
        :raises OSError: as open(2) says.
        """
        folder, name = self._parent(path, follow=True)
        assert isinstance(folder.content, dict)
        node = folder.content.get(name) if name else folder
        if node is None:
            if not flags & os.O_CREAT:
                raise _error(errno.ENOENT, path)
            node = folder.content[name] = _Node(_File(), 0o644 if mode is None else mode)
        elif flags & os.O_CREAT and flags & os.O_EXCL:
            raise _error(errno.EEXIST, path)
        if isinstance(node.content, dict):
            if flags & os.O_ACCMODE != os.O_RDONLY:
                raise _error(errno.EISDIR, path)
            # what it is can be seen, and nothing of the host be listed
            return os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        assert isinstance(node.content, _File)
        if user is not None:
            node.uid = node.gid = self.accounts.uid(user)
        if mode is not None and flags & os.O_CREAT:
            node.mode = mode
        if flags & os.O_ACCMODE != os.O_RDONLY:
            node.mtime_ns = int(clock.unix_s() * 10**9)
        return node.content.open(flags)

    def stat(self, path: str) -> dict[str, int | float]:
        """Mode with the kind of file, uid, gid, size, mtime (seconds)."""
        node = self._find(path)
        size = os.fstat(node.content.fd).st_size if isinstance(node.content, _File) else 0
        return {
            "mode": node.kind | node.mode,
            "uid": node.uid,
            "gid": node.gid,
            "size": size,
            "mtime": node.mtime_ns / 10**9,
            "mtime_ns": node.mtime_ns,
        }

    def listdir(self, path: str) -> list[str]:
        """Names in a folder, sorted."""
        node = self._find(path)
        if not isinstance(node.content, dict):
            raise _error(errno.ENOTDIR, path)
        return sorted(node.content)

    def mkdirs(self, path: str, mode: int | None = None, user: str | None = None) -> bool:
        """Make a folder and those on the way to it; False: it is there, and stays as it is."""
        pure = PurePosixPath(path)
        made = False
        for step in [*reversed(pure.parents), pure]:
            folder, name = self._parent(str(step), follow=True)
            assert isinstance(folder.content, dict)
            if not name:
                continue
            node = folder.content.get(name)
            if node is None:
                node = folder.content[name] = _Node({}, 0o755)
                if step == pure:
                    made = True
                    node.mode = mode or 0o755
                    node.uid = node.gid = self.accounts.uid(user) if user else 0
            elif not isinstance(node.content, dict):
                raise _error(errno.EEXIST if step == pure else errno.ENOTDIR, path)
        return made

    def symlink(
        self, path: str, target: str, user: str | None = None, mtime_ns: int | None = None
    ) -> None:
        """Make a symbolic link, also in place of one."""
        folder, name = self._parent(path, follow=False)
        assert isinstance(folder.content, dict)
        node = folder.content.get(name) if name else folder
        if node is not None and not isinstance(node.content, _Link):
            raise _error(errno.EEXIST, path)
        node = folder.content[name] = _Node(_Link(target), 0o777)
        node.uid = node.gid = self.accounts.uid(user) if user else 0
        node.mtime_ns = node.mtime_ns if mtime_ns is None else mtime_ns

    def link(self, path: str, target: str) -> None:
        """Make one more name of a file, also in place of another file."""
        source = self._find(target, follow=False)
        folder, name = self._parent(path, follow=False)
        assert isinstance(folder.content, dict)
        node = folder.content.get(name) if name else folder
        if isinstance(source.content, dict) or (node and isinstance(node.content, dict)):
            raise _error(errno.EPERM, path)
        if isinstance(source.content, _File):
            source.content.names += 1
        if node is not None:
            _close(node)
        folder.content[name] = source

    def settle(
        self,
        path: str,
        mtime_ns: int | None = None,
        attributes: Mapping[str, str] = MappingProxyType({}),
        mode: int | None = None,
    ) -> None:
        """Give a file or folder its permissions, attributes (hexadecimal) and times."""
        node = self._find(path)
        node.mode = node.mode if mode is None else mode
        node.attributes |= {name: bytes.fromhex(value) for name, value in attributes.items()}
        node.mtime_ns = node.mtime_ns if mtime_ns is None else mtime_ns

    def attributes(self, path: str) -> Mapping[str, bytes]:
        """Extended attributes of a file or folder."""
        return self._find(path).attributes

    def chmod(self, path: str, mode: int) -> None:
        """Change permission bits."""
        self._find(path).mode = stat.S_IMODE(mode)

    def chown(self, path: str, user: str) -> None:
        """Change the owner."""
        node = self._find(path)
        node.uid = node.gid = self.accounts.uid(user)

    # what a test does

    def write(self, path: str, content: str | bytes, *, mode: int = 0o644) -> None:
        """Write a file; missing folders on the way are made."""
        self.mkdirs(str(PurePosixPath(path).parent))
        fd = self.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        with os.fdopen(fd, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)

    def read_bytes(self, path: str) -> bytes:
        """What is in a file."""
        node = self._find(path)
        if not isinstance(node.content, _File):
            raise _error(errno.EISDIR, path)
        return os.pread(node.content.fd, os.fstat(node.content.fd).st_size, 0)

    def __getitem__(self, path: str) -> str:
        """What is in a file, as text (UTF-8)."""
        return self.read_bytes(path).decode()

    def __contains__(self, path: object) -> bool:
        """Whether there is such a file or folder."""
        try:
            self._find(str(path))
        except OSError:
            return False
        return True

    def owner(self, path: str) -> str:
        """Name of the user who owns a file or folder."""
        return self.accounts.name(self._find(path).uid)

    def target(self, path: str) -> str | None:
        """Where a symbolic link leads; None: it is none."""
        content = self._find(path, follow=False).content
        return content.target if isinstance(content, _Link) else None

    def remove(self, path: str) -> None:
        """Remove a file or link, or a folder with all that is in it."""
        folder, name = self._parent(path, follow=False)
        assert isinstance(folder.content, dict)
        if not name or name not in folder.content:
            raise _error(errno.ENOENT if name else errno.EBUSY, path)
        _close(folder.content.pop(name))

    def close(self) -> None:
        """Let go of all content; the tree is empty."""
        _close(self._root)
        self._root = _Node({}, 0o755)

    def become(self, other: Tree) -> None:
        """Have what another one has, and nothing else."""
        copy = deepcopy(other._root)
        self.close()
        self._root = copy

    def paths(self) -> Iterator[str]:
        """Paths of all files, folders and links but the root."""
        yield from _walk("", self._root)


def _walk(path: str, node: _Node) -> Iterator[str]:
    if isinstance(node.content, dict):
        for name, inner in sorted(node.content.items()):
            yield f"{path}/{name}"
            yield from _walk(f"{path}/{name}", inner)


def _close(node: _Node) -> None:
    if isinstance(node.content, _File):
        node.content.close()
    elif isinstance(node.content, dict):
        for inner in node.content.values():
            _close(inner)
