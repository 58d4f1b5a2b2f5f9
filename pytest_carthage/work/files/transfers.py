"""Files that are read, written, and copied from and to the host."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import stat
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from pytest_carthage.bridge import operation
from pytest_carthage.errors import FabricError
from pytest_carthage.model.keys.inputs import CACHES
from pytest_carthage.work.files.content import attributes, copy, kind_of
from pytest_carthage.work.files.reading import check_kind, read_whole
from pytest_carthage.work.files.subject import Subject

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

__all__ = ["FileOperations"]

R = TypeVar("R")

#: what it is to open something that is no file
_ODD = (errno.EINVAL, errno.ENXIO)
#: of a file that is read into memory, unless its caller wants another limit
_MOST_TEXT_MIB = 64


class FileOperations(Subject):
    """Reading, writing and copying files."""

    @contextlib.asynccontextmanager
    async def _opened(
        self, path: str, flags: int, mode: int | None = None, user: str | None = None
    ) -> AsyncIterator[int]:
        channel = self.channel
        try:
            reply, fds = await channel.request("open", path=path, flags=flags, mode=mode, user=user)
        except FabricError as error:
            raise _file_error(error, self._who, path) from error
        is_written = False
        try:
            yield fds[0]
            is_written = True
        finally:
            os.close(fds[0])
            if "commit" in reply:  # it is a copy, which is carried to the machine now
                try:
                    await channel.request("commit", number=reply["commit"], keep=is_written)
                except FabricError as error:
                    if is_written:
                        raise _file_error(error, self._who, path) from error

    @operation
    async def read_text(self, path: str, *, most_mib: int | None = _MOST_TEXT_MIB) -> str:
        """Read a text file (UTF-8); bytes that are none are surrogates (``surrogateescape``).

        Of a file that grows this is what it had when it was opened.

        :param most_mib: what it may have, in MiB; None: any amount, for which there has to be
            memory here.
        :raises FileNotFoundError: it is not there; and so on for other causes.
        :raises OSError: it is longer, or no file that ends: a device, a pipe, a stream.
        """
        most_bytes = None if most_mib is None else most_mib << 20
        try:
            return await self._read_text(path, most_bytes)
        except OSError as error:
            if error.errno in _ODD:  # an endpoint that opens none of them
                info, _ = await self.channel.request("stat", path=path)
                check_kind(info["mode"], path, who=self._who)
            raise

    async def _read_text(self, path: str, most_bytes: int | None) -> str:
        async with self._opened(path, os.O_RDONLY) as fd:
            data = await _in_thread(read_whole, fd, path=path, who=self._who, most_bytes=most_bytes)
            return data.decode(errors="surrogateescape")

    @operation
    async def write_text(
        self, path: str, text: str, *, mode: int | None = None, user: str | None = None
    ) -> None:
        """Write a text file (UTF-8) in place of what is there.

        What :meth:`read_text` has read comes out as it was, byte for byte.

        :param mode: permission bits; 0o644 by default.
        :param user: who owns it.
        """
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        async with self._opened(path, flags, mode, user) as fd:
            await _in_thread(_write_all, fd, data=text.encode(errors="surrogateescape"))

    @operation
    async def put(
        self,
        source: str | Path,
        target: str,
        *,
        mode: int | None = None,
        user: str | None = None,
    ) -> None:
        """Copy a file, or a folder with all that is in it, from the host into the machine.

        ``target`` is where it is then. One that ends with ``/`` is a folder, and it is put into
        that under its own name. As with rsync, a folder whose name is given with a ``/`` at its
        end is its content, which is put right there; into ``/`` content is put anyhow. Missing
        folders on the way are made, those that are there stay, with what else is in them. Symbolic
        links in a folder stay links, hard links of one file stay so; what Python and its tools
        keep beside their sources (``__pycache__``) is left out. Holes, times (to the nanosecond)
        and attributes (``user.*``, ACLs, capabilities) come with files and new folders.

        :param user: who owns all of it; root by default. Owners on the host do not count.
        :raises FileNotFoundError: there is no such file on the host.
        :raises NotADirectoryError: its name ends with ``/``, and it is none.
        :raises OSError: it is a pipe, a socket or a device; an attribute cannot be had there.
        """
        ends_with_slash = str(source).endswith("/")
        source = await asyncio.to_thread(self.source, source)
        if not source.is_dir():
            if ends_with_slash:
                what = f"{self._who}: no folder on the host"
                raise NotADirectoryError(errno.ENOTDIR, what, str(source))
            if target.endswith("/"):
                target += source.name
            await self._mkdirs(str(PurePosixPath(target).parent))
            await self._bring(source, target, mode, user)
            return
        if target.endswith("/") and target.strip("/") and not ends_with_slash:
            target += source.name
        target = target.rstrip("/")
        made = [(source, target)] if await self._mkdirs(target or "/", source, user) else []
        #: files of more than one name, to the first that was put
        linked: dict[tuple[int, int], str] = {}
        for path in sorted(source.rglob("*")):
            if not CACHES.isdisjoint(path.relative_to(source).parts):
                continue
            inside = f"{target}/{path.relative_to(source)}"
            info = path.lstat()
            first = linked.get((info.st_dev, info.st_ino))
            if stat.S_ISLNK(info.st_mode):
                await self._make(
                    "symlink",
                    inside,
                    target=str(path.readlink()),
                    user=user,
                    mtime_ns=info.st_mtime_ns,
                )
            elif stat.S_ISDIR(info.st_mode):
                if await self._mkdirs(inside, path, user):
                    made.append((path, inside))
            elif first is not None and self._knows("link"):
                await self._make("link", inside, target=first)
            else:
                await self._bring(path, inside, mode, user)
                if info.st_nlink > 1:
                    linked[info.st_dev, info.st_ino] = inside
        for path, inside in reversed(made):  # what is put into a folder changes its time
            await self._settle(path, inside)

    async def _make(self, op: str, path: str, **fields: Any) -> Mapping[str, Any]:
        try:
            reply, _ = await self.channel.request(op, path=path, **fields)
        except FabricError as error:
            raise _file_error(error, self._who, path) from error
        return reply

    async def _mkdirs(self, path: str, like: Path | None = None, user: str | None = None) -> bool:
        """Make a folder, where there is none, with the permissions of one on the host.

        False: it was there.
        """
        mode = None if like is None else stat.S_IMODE(_mode_of(like))
        return bool((await self._make("mkdirs", path, mode=mode, user=user)).get("made", False))

    async def bring(self, source: Path, target: str, *, mode: int) -> None:
        """Copy one file of the host, which no task has read, into a folder that is there."""
        await self._bring(source, target, mode, None)

    async def _bring(self, source: Path, target: str, mode: int | None, user: str | None) -> None:
        kind = _mode_of(source)
        if not stat.S_ISREG(kind):  # to open a pipe would block all that lives on this loop
            what = f"{self._who}: put takes files and folders, and this is {kind_of(kind)}"
            raise OSError(errno.EINVAL, what, str(source))
        bits = stat.S_IMODE(kind) if mode is None else mode
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        with source.open("rb") as file:
            async with self._opened(target, flags, bits, user) as fd:
                await _in_thread(copy, file.fileno(), fd)
        # who writes without privileges takes set-user-ID bits away, see write(2)
        await self._settle(source, target, bits if bits & (stat.S_ISUID | stat.S_ISGID) else None)

    def _knows(self, op: str) -> bool:
        """Whether it can be asked for that; a target of others may be older than the operation."""
        operations = getattr(self.channel, "operations", None)
        return operations is None or op in operations

    async def _settle(self, source: Path, target: str, mode: int | None = None) -> None:
        """Give a file or folder the times and the attributes of one of the host.

        :param mode: permission bits that it has to be given once more.
        """
        owned, when = await asyncio.to_thread(_facts, source)
        if self._knows("settle"):
            try:
                await self.channel.request(
                    "settle", path=target, mode=mode, mtime_ns=when, attributes=owned
                )
                return
            except FabricError as error:
                if error.errno not in (errno.ENOTSUP, errno.EPERM) or not owned:
                    raise _file_error(error, self._who, target) from error
        elif not owned:  # a target of others, which knows of no times
            return
        names = ", ".join(owned)
        what = f"{self._who}: the attributes {names} of {source} cannot be had there; try: a copy"
        raise OSError(errno.ENOTSUP, f"{what} without them (cp, without -a)", target)

    @operation
    async def get(self, source: str, target: str | Path) -> Path:
        """Copy a file from the machine to the host; returns where it is now.

        A ``target`` that is a folder gets a file of the same name. Content, holes, times and
        permissions come with it, as far as the umask lets them; what would give rights on the host
        does not: owners, set-user-ID bits, ACLs, capabilities, nor other attributes.

        :raises FileNotFoundError: it is not there; IsADirectoryError: it is a folder.
        :raises OSError: it is a pipe, a socket or a device.
        """
        target = Path(target)
        if target.is_dir():
            target /= PurePosixPath(source).name
        info = await self._make("stat", source)
        if not stat.S_ISREG(int(info["mode"])):
            self._refuse_kind(int(info["mode"]), source)
        async with self._opened(source, os.O_RDONLY) as fd:
            opened = os.fstat(fd).st_mode
            if not stat.S_ISREG(opened):  # it was another thing a moment ago
                self._refuse_kind(opened, source)
            await _in_thread(_take, fd, target=target, mode=int(info["mode"]) & 0o777)
        when = int(info.get("mtime_ns", float(info["mtime"]) * 10**9))
        os.utime(target, ns=(when, when))
        return target

    def _refuse_kind(self, mode: int, source: str) -> NoReturn:
        number = errno.EISDIR if stat.S_ISDIR(mode) else errno.EINVAL
        what = f"{self._who}: get takes a file, and this is {kind_of(mode)}"
        raise OSError(number, what, source)

    def source(self, path: str | Path) -> Path:
        """A path of the host that a task reads; that it was read is remembered.

        Relative ones are of the folder of the file whose code gives them, or of ``files`` or
        ``templates`` there. In the code of a role its own folder counts first, then that of the
        file in which the role is written.

        :raises FileNotFoundError: there is no such file.
        """
        places = self.scope.places(Path(path))
        for place in places:
            if self.inputs is not None:
                self.inputs.add(place)  # what is not there would be taken as soon as it is
            if place.exists():
                return place
        what = "no such file on the host"
        if Path(path).exists():
            what += (
                ", but in the working folder: relative paths are of the folder of the code that "
                "gives them"
            )
        raise FileNotFoundError(errno.ENOENT, f"{self._who}: {what}", str(places[0].absolute()))

    @operation
    async def template(
        self,
        source: str | Path,
        target: str,
        *,
        variables: Mapping[str, Any] | None = None,
        mode: int | None = None,
        user: str | None = None,
    ) -> None:
        """Write what a Jinja2 template of the host gives. Missing folders on the way are made.

        :param variables: added to the role's parameters, which every template has.
        :raises TaskError: a variable is missing, or the template is wrong.
        :raises FileNotFoundError: there is no such template.
        """
        from pytest_carthage.work.files.template import render

        path = await asyncio.to_thread(self.source, source)
        reads = self.inputs.add if self.inputs is not None else lambda path: None
        text = await asyncio.to_thread(render, path, {**self.variables, **(variables or {})}, reads)
        await self._mkdirs(str(PurePosixPath(target).parent))
        bits = stat.S_IMODE(_mode_of(path)) if mode is None else mode
        await self.write_text(target, text, mode=bits, user=user)

    @operation
    async def exists(self, path: str) -> bool:
        """Whether there is such a file or folder."""
        try:
            await self.channel.request("stat", path=path)
        except FabricError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                return False
            raise
        return True


def _facts(path: Path) -> tuple[dict[str, str], int]:
    """Attributes of a file, and when it was changed (nanoseconds since the epoch)."""
    return attributes(path), path.stat().st_mtime_ns


def _mode_of(path: Path) -> int:
    return path.stat().st_mode


def _file_error(error: FabricError, who: str, path: str) -> Exception:
    if error.errno is None:
        return error
    return OSError(error.errno, f"{who}: {os.strerror(error.errno)}", path)


async def _in_thread(work: Callable[..., R], *fds: int, **more: Any) -> R:
    """Run what blocks in a thread, with descriptors of its own.

    Who is cancelled here closes theirs, while the thread goes on: it must not meet a number that
    means another file by then.
    """
    own = [os.dup(fd) for fd in fds]

    def run() -> R:
        try:
            return work(*own, **more)
        finally:
            for fd in own:
                os.close(fd)

    return await asyncio.to_thread(run)


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _take(fd: int, target: Path, mode: int) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
    there = os.open(target, flags, mode)
    try:
        copy(fd, there)
    finally:
        os.close(there)
