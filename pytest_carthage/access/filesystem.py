"""The file system of a machine, or of an image that is not booted: what tasks work on."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import shutil
import stat
import time
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, TypeVar

from pytest_carthage.access.command import Result
from pytest_carthage.access.execution import Interrupted, execute
from pytest_carthage.access.inputs import CACHES
from pytest_carthage.errors import CommandError, FabricError, TaskError, TimeLimitError
from pytest_carthage.portal import Portal, bridged, on_core

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence

    import testinfra.host

    from pytest_carthage.access.ansible import Environment
    from pytest_carthage.access.ansible_results import PlaybookResult
    from pytest_carthage.access.inputs import Inputs
    from pytest_carthage.model.role import Role
    from pytest_carthage.model.task import Task
    from pytest_carthage.provider import Channel

__all__ = ["AsyncFilesystem", "Filesystem"]

_RUN_S = 300.0
#: characters of a line of output that a message shows
_LINE = 500
R = TypeVar("R")


class AsyncFilesystem:
    """Files, and a way to run commands among them; every coroutine is for any event loop."""

    def __init__(
        self, name: str, *, who: str, portal: Portal, channel: Channel | None = None
    ) -> None:
        self._name = name
        self._who = who
        self._channel = channel
        self.portal = portal
        #: every command that was run through this handle, in the order of their ends
        self.commands: list[Result] = []
        #: folder that relative paths of the host are of, while a task is done; None: the
        #: working folder
        self.anchor: Path | None = None
        #: what a task has read of the host, where that counts
        self.inputs: Inputs | None = None
        #: variables of every template: the role's parameters, while its task is done
        self.variables: Mapping[str, Any] = {}
        #: whether nothing may be fetched
        self.offline = False
        #: is told how far something is that takes its time
        self.note: Callable[[str], None] = lambda text: None
        #: archive that its packages come from; empty: the host's own
        self.mirror = ""

    @property
    def who(self) -> str:
        """How messages about it begin."""
        return self._who

    @property
    def name(self) -> str:
        """What people call it."""
        return self._name

    @property
    def channel(self) -> Channel:
        """The connection to its agent."""
        if self._channel is None:
            raise FabricError(f"{self._who}: it is closed")
        return self._channel

    def __repr__(self) -> str:
        return f"<{self._who}>"

    # commands

    @on_core
    async def run(
        self,
        command: str | Sequence[str | os.PathLike[str]],
        *,
        user: str | None = None,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        input: str | bytes | None = None,
        timeout_s: float | None = _RUN_S,
        check: bool = True,
    ) -> Result:
        """Run a command in the machine and wait for its end.

        :param command: text for ``/bin/sh -c``, or a sequence of arguments.
        :param user: name or number; root by default.
        :param cwd: working folder; the user's home by default.
        :param env: added to the machine's environment.
        :param input: standard input; empty by default.
        :param timeout_s: None: for ever.
        :param check: raise when the exit status is not 0.
        :raises CommandError: the exit status is not 0, or the program is missing.
        :raises TimeLimitError: it did not end in time, with the output so far; it was killed.
        """
        argv = (
            ["/bin/sh", "-c", command]
            if isinstance(command, str)
            else [os.fspath(word) for word in command]
        )
        if not argv:
            raise ValueError(f"{self._who}: an empty sequence is no command")
        kept = command if isinstance(command, str) else tuple(argv)
        data = input.encode() if isinstance(input, str) else input
        started_at, begin = time.time(), time.monotonic()

        def result(status: int, stdout: bytes, stderr: bytes) -> Result:
            text = stdout.decode(errors="replace")
            made = Result(
                machine=self.name,
                command=kept,
                status=status,
                stdout=text,
                raw_stdout=stdout if "\ufffd" in text else None,
                stderr=stderr.decode(errors="replace"),
                started_at=started_at,
                duration_s=time.monotonic() - begin,
                user=user,
            )
            self.commands.append(made)
            return made

        try:
            done = result(
                *await execute(
                    self.channel,
                    argv,
                    user=user,
                    cwd=cwd,
                    env=env or {},
                    input=data,
                    timeout_s=timeout_s,
                )
            )
        except Interrupted as interrupted:
            cut = result(-9, interrupted.stdout, interrupted.stderr)
            raise TimeLimitError(
                f"{self._who}: {cut.text!r} did not end in {timeout_s:g} s and was killed; "
                f"output so far:\n{_tail(cut)}"
            ) from None
        except FabricError as error:
            if error.errno not in (errno.ENOENT, errno.EACCES, errno.ENOTDIR, errno.ENOEXEC):
                raise
            status = 127 if error.errno == errno.ENOENT else 126
            done = result(status, b"", str(error).encode())
        if check and not done.ok:
            who = f" as {user}" if user else ""
            raise CommandError(
                f"{self._who}: {done.text!r}{who} exited with status {done.status} "
                f"after {done.duration_s:.2f} s; it printed:\n{_tail(done)}",
                done,
            )
        return done

    # files

    @contextlib.asynccontextmanager
    async def _opened(
        self, path: str, flags: int, mode: int | None = None, user: str | None = None
    ) -> AsyncIterator[int]:
        try:
            _, fds = await self.channel.request(
                "open", path=path, flags=flags, mode=mode, user=user
            )
        except FabricError as error:
            raise _file_error(error, self._who, path) from error
        try:
            yield fds[0]
        finally:
            os.close(fds[0])

    @on_core
    async def read_text(self, path: str) -> str:
        """Read a text file (UTF-8).

        :raises FileNotFoundError: it is not there; and so on for other causes.
        """
        async with self._opened(path, os.O_RDONLY) as fd:
            return (await _in_thread(_read_all, fd)).decode()

    @on_core
    async def write_text(
        self, path: str, text: str, *, mode: int | None = None, user: str | None = None
    ) -> None:
        """Write a text file (UTF-8) in place of what is there.

        :param mode: permission bits; 0o644 by default.
        :param user: who owns it.
        """
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        async with self._opened(path, flags, mode, user) as fd:
            await _in_thread(_write_all, fd, data=text.encode())

    @on_core
    async def put(
        self,
        source: str | Path,
        target: str,
        *,
        mode: int | None = None,
        user: str | None = None,
    ) -> None:
        """Copy a file, or a folder with all that is in it, from the host into the machine.

        Missing folders on the way are made. A ``target`` that ends with ``/`` is a folder.
        Symbolic links in a folder stay links; what Python and its tools keep beside their sources
        (``__pycache__``) is left out.

        :raises FileNotFoundError: there is no such file on the host.
        """
        source = await asyncio.to_thread(self.source, source)
        if target.endswith("/"):
            target += source.name
        if not source.is_dir():
            await self._mkdirs(str(PurePosixPath(target).parent))
            await self._put_file(source, target, mode, user)
            return
        await self._mkdirs(target, source, user)
        for path in sorted(source.rglob("*")):
            if not CACHES.isdisjoint(path.relative_to(source).parts):
                continue
            inside = f"{target}/{path.relative_to(source)}"
            if path.is_symlink():
                await self._link(inside, str(path.readlink()))
            elif path.is_dir():
                await self._mkdirs(inside, path, user)
            else:
                await self._put_file(path, inside, mode, user)

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

    async def _put_file(
        self, source: Path, target: str, mode: int | None, user: str | None
    ) -> None:
        kind = _mode_of(source)
        if not stat.S_ISREG(kind):  # to open a pipe would block all that lives on this loop
            raise OSError(errno.EINVAL, f"{self._who}: put takes files and folders", str(source))
        bits = stat.S_IMODE(kind) if mode is None else mode
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        with source.open("rb") as file:
            async with self._opened(target, flags, bits, user) as fd:
                await _in_thread(_copy, file.fileno(), fd)

    @on_core
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
        ``templates`` there; outside a task, of the working folder.

        :raises FileNotFoundError: there is no such file.
        """
        given = Path(path)
        if self.anchor is None or given.is_absolute():
            found = [given]
        else:
            found = [self.anchor / place / given for place in ("", "files", "templates")]
        for one in found:
            if self.inputs is not None:
                self.inputs.add(one)  # one that is not there would be taken as soon as it is
            if one.exists():
                return one
        where = " or ".join(str(one) for one in found[:1])
        raise FileNotFoundError(errno.ENOENT, f"{self._who}: no such file on the host", where)

    @on_core
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
        from pytest_carthage.access.template import render

        path = await asyncio.to_thread(self.source, source)
        reads = self.inputs.add if self.inputs is not None else lambda path: None
        text = await asyncio.to_thread(render, path, {**self.variables, **(variables or {})}, reads)
        await self._mkdirs(str(PurePosixPath(target).parent))
        bits = stat.S_IMODE(_mode_of(path)) if mode is None else mode
        await self.write_text(target, text, mode=bits, user=user)

    @on_core
    async def exists(self, path: str) -> bool:
        """Whether there is such a file or folder."""
        try:
            await self.channel.request("stat", path=path)
        except FabricError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                return False
            raise
        return True

    @on_core
    async def install(self, *packages: str) -> None:
        """Install Debian packages with what they depend on; those that are there stay.

        They are found and downloaded by the host, whose apt knows the way to the archive: a
        machine needs no way out for it.

        :raises TaskError: there is no such package, or it could not be installed.
        """
        from pytest_carthage.access.software import install

        await install(self, packages)

    @on_core
    async def purge(self, *packages: str, autoremove: bool = False) -> None:
        """Remove Debian packages with their configuration.

        :param autoremove: also what nothing needs any more.
        :raises TaskError: they could not be removed.
        """
        from pytest_carthage.access.software import purge

        await purge(self, packages, autoremove=autoremove)

    @on_core
    async def enable(self, *units: str) -> None:
        """Enable systemd units; where systemd runs, start them, too.

        :raises TaskError: there is no such unit, or no systemd.
        """
        from pytest_carthage.access.software import enable

        await enable(self, units)

    @on_core
    async def disable(self, *units: str) -> None:
        """Disable systemd units; where systemd runs, stop them, too.

        :raises TaskError: there is no such unit, or no systemd.
        """
        from pytest_carthage.access.software import enable

        await enable(self, units, no=True)

    @on_core
    async def ansible(
        self,
        playbook: str | Path | None = None,
        *,
        role: str | Path | None = None,
        extra_vars: Mapping[str, object] | None = None,
        tags: str | Sequence[str] | None = None,
        timeout_s: float = 3600.0,
    ) -> PlaybookResult:
        """Apply a playbook, or a role by the path of its folder, from outside.

        Ansible runs on the host; nothing of it, nor Python, needs to be in an image.

        :raises AnsibleError: a task failed, or it could not be started.
        :raises HostError: there is no ``ansible-playbook`` on this host.
        """
        from pytest_carthage.access.ansible_task import apply

        return await apply(
            self,
            playbook=playbook,
            role=role,
            extra_vars=extra_vars,
            tags=tags,
            timeout_s=timeout_s,
        )

    async def ansible_environment(self) -> Environment:
        """What Ansible is to see of it.

        :raises TaskError: it cannot be used from here.
        """
        raise TaskError(f"{self._who}: Ansible does not reach it")

    # tasks

    async def perform(self, task: Task, role: Role | None) -> None:
        """Do a task here: relative paths are of its folder, its role's parameters variables.

        :raises TimeLimitError: it did not end in time.
        """
        self.anchor, self.variables = task.anchor, _variables_of(role)
        arguments = () if role is None else (role,)
        try:
            async with asyncio.timeout(task.timeout_s):
                if task.is_async:
                    await task.function(*arguments, self)
                else:
                    await asyncio.to_thread(_call, task.function, *arguments, self.sync)
        except TimeoutError as error:
            raise TimeLimitError(
                f"{self._who}: task {task.title!r} did not end in {task.timeout_s:g} s"
            ) from error
        finally:
            self.anchor, self.variables = None, {}

    @property
    def sync(self) -> Any:
        """The same for synchronous callers."""
        return Filesystem(self)


class Filesystem:
    """Files, and a way to run commands among them; :attr:`aio` is the same as awaitables."""

    def __init__(self, aio: AsyncFilesystem) -> None:
        #: the same as awaitables, for any event loop
        self.aio: Any = aio

    run = bridged(AsyncFilesystem.run)
    read_text = bridged(AsyncFilesystem.read_text)
    write_text = bridged(AsyncFilesystem.write_text)
    exists = bridged(AsyncFilesystem.exists)
    put = bridged(AsyncFilesystem.put)
    get = bridged(AsyncFilesystem.get)
    template = bridged(AsyncFilesystem.template)
    install = bridged(AsyncFilesystem.install)
    purge = bridged(AsyncFilesystem.purge)
    enable = bridged(AsyncFilesystem.enable)
    disable = bridged(AsyncFilesystem.disable)

    @property
    def name(self) -> str:
        """What people call it."""
        return str(self.aio.name)

    @property
    def commands(self) -> Sequence[Result]:
        """Every command that was run through this handle."""
        found: Sequence[Result] = self.aio.commands
        return found

    def source(self, path: str | Path) -> Path:
        """A path of the host that a task reads, see :meth:`AsyncFilesystem.source`."""
        found: Path = self.aio.source(path)
        return found

    @cached_property
    def host(self) -> testinfra.host.Host:
        """It as a testinfra host."""
        from pytest_carthage.access.testinfra_host import make_host

        return make_host(self)

    def __repr__(self) -> str:
        return repr(self.aio)


def _call(function: Callable[..., Any], *arguments: Any) -> None:
    try:
        function(*arguments)
    except StopIteration as error:  # a future cannot have it, and would never be done
        raise RuntimeError(f"StopIteration: {error}".rstrip(": ")) from error


def _variables_of(role: Role | None) -> dict[str, Any]:
    """Variables that templates of a role's task have: its parameters by name, and ``role``."""
    if role is None:
        return {}
    told: dict[str, Any] = {"role": role}
    return told | {name: getattr(role, name) for name in getattr(role, "__dataclass_fields__", ())}


def _tail(result: Result, lines: int = 20) -> str:
    text = "\n".join(part for part in (result.stdout.rstrip(), result.stderr.rstrip()) if part)
    kept = text.splitlines()[-lines:]
    cut = (line if len(line) <= _LINE else f"{line[:_LINE]} ..." for line in kept)
    return "\n".join(f"  {line}" for line in cut) or "  (nothing)"


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


def _read_all(fd: int) -> bytes:
    parts = []
    while data := os.read(fd, 1 << 20):
        parts.append(data)
    return b"".join(parts)


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
