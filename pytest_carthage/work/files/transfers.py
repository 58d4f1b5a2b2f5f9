"""Files that are read, written, and copied from and to the host."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import shutil
import stat
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, TypeVar

from pytest_carthage.bridge import operation
from pytest_carthage.errors import FabricError
from pytest_carthage.model.keys.inputs import CACHES
from pytest_carthage.work.files.reading import read_whole
from pytest_carthage.work.files.subject import Subject

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

__all__ = ["FileOperations"]

R = TypeVar("R")

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
        links in a folder stay links; what Python and its tools keep beside their sources
        (``__pycache__``) is left out.

        :raises FileNotFoundError: there is no such file on the host.
        :raises NotADirectoryError: its name ends with ``/``, and it is none.
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
        await self._mkdirs(target or "/", source, user)
        for path in sorted(source.rglob("*")):
            if not CACHES.isdisjoint(path.relative_to(source).parts):
                continue
            inside = f"{target}/{path.relative_to(source)}"
            if path.is_symlink():
                await self._link(inside, str(path.readlink()))
            elif path.is_dir():
                await self._mkdirs(inside, path, user)
            else:
                await self._bring(path, inside, mode, user)

    async def _mkdirs(self, path: str, like: Path | None = None, user: str | None = None) -> None:
        """Make a folder, where there is none, with the permissions of one on the host."""
        mode = None if like is None else stat.S_IMODE(_mode_of(like))
        try:
            await self.channel.request("mkdirs", path=path, mode=mode, user=user)
        except FabricError as error:
            raise _file_error(error, self._who, path) from error

    async def _link(self, path: str, target: str) -> None:
        try:
            await self.channel.request("symlink", path=path, target=target)
        except FabricError as error:
            raise _file_error(error, self._who, path) from error

    async def bring(self, source: Path, target: str, *, mode: int) -> None:
        """Copy one file of the host, which no task has read, into a folder that is there."""
        await self._bring(source, target, mode, None)

    async def _bring(self, source: Path, target: str, mode: int | None, user: str | None) -> None:
        kind = _mode_of(source)
        if not stat.S_ISREG(kind):  # to open a pipe would block all that lives on this loop
            raise OSError(errno.EINVAL, f"{self._who}: put takes files and folders", str(source))
        bits = stat.S_IMODE(kind) if mode is None else mode
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        with source.open("rb") as file:
            async with self._opened(target, flags, bits, user) as fd:
                await _in_thread(_copy, file.fileno(), fd)

    @operation
    async def get(self, source: str, target: str | Path) -> Path:
        """Copy a file from the machine to the host; returns where it is now.

        A ``target`` that is a folder gets a file of the same name.

        :raises FileNotFoundError: it is not there; IsADirectoryError: it is a folder.
        """
        target = Path(target)
        if target.is_dir():
            target /= PurePosixPath(source).name
        async with self._opened(source, os.O_RDONLY) as fd:
            if stat.S_ISDIR(os.fstat(fd).st_mode):
                raise IsADirectoryError(errno.EISDIR, f"{self._who}: get takes a file", source)
            with target.open("wb") as file:
                await _in_thread(_copy, fd, file.fileno())
        return target

    def source(self, path: str | Path) -> Path:
        """A path of the host that a task reads; that it was read is remembered.

        Relative ones are of the folder that the task's own file is in, or of ``files`` or
        ``templates`` there; outside a task, of the working folder. A role's ``refresh`` and
        ``welcome`` look in both, their own first.

        :raises FileNotFoundError: there is no such file.
        """
        places = self.scope.places(Path(path))
        for place in places:
            if self.inputs is not None:
                self.inputs.add(place)  # what is not there would be taken as soon as it is
            if place.exists():
                return place
        raise FileNotFoundError(
            errno.ENOENT, f"{self._who}: no such file on the host", str(places[0])
        )

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


def _copy(source: int, target: int) -> None:
    with (
        os.fdopen(source, "rb", closefd=False) as reader,
        os.fdopen(target, "wb", closefd=False) as writer,
    ):
        shutil.copyfileobj(reader, writer, 1 << 20)
