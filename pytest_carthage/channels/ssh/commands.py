"""Commands of a host as a deputy asks for them: each over a channel, none a process here."""

from __future__ import annotations

import asyncio
import os
import secrets
import shlex
import signal
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from pytest_carthage.channels.questions import Questions
from pytest_carthage.channels.scripts import shell
from pytest_carthage.channels.ssh.session import Session
from pytest_carthage.channels.ssh.watch import WATCH, marked
from pytest_carthage.fabric.jobs import Job, Jobs
from pytest_carthage.fabric.wire.frames import close_all

if TYPE_CHECKING:
    import asyncssh

    from pytest_carthage.channels.ssh.becoming import Becoming
    from pytest_carthage.channels.ssh.line import Line

__all__ = ["ChannelJobs", "Commands", "Started"]

#: what a command has to end in once it is killed; then its channel is closed
_HANG_UP_S = 2.0


class Started:
    """A command that was asked for: what is told of it as of a process."""

    def __init__(self, number: int, token: str) -> None:
        #: of this deputy's, and of no process
        self.pid = number
        self.returncode = 0
        #: by which it is known there
        self.token = token
        self.cancel: Callable[[], None] = lambda: None
        self.session: Session | None = None


class Commands(Questions):
    """Runs commands over a line's channels.

    :param becoming: gives what makes another user of a command there.
    :param on_end: is called with the number of a command and its wait status; None: the connection
        was lost, with why.
    """

    def __init__(
        self,
        line: Line,
        *,
        becoming: Callable[[], Becoming],
        on_end: Callable[[int, int | None, BaseException | None], None],
    ) -> None:
        super().__init__(lambda argv: argv)
        self._line = line
        self._becoming = becoming
        self._on_end = on_end
        #: numbers of no process
        self._last = 1 << 32
        self._running: dict[int, Started] = {}
        self._watch: Session | None = None
        self._beginning = asyncio.Lock()

    def popen(  # type: ignore[override]
        self,
        argv: Sequence[str],
        *,
        stdin: int,
        stdout: int,
        stderr: int,
        terminal: tuple[str, int, int] | None = None,
    ) -> Started:
        """Start a command there; copies of the descriptors are its streams."""
        self._last += 1
        started = Started(self._last, secrets.token_hex(8))
        self._running[started.pid] = started
        own: list[int] = []
        try:
            for fd in (stdin, stdout, stderr):
                own.append(os.dup(fd))
        except BaseException:
            close_all(own)
            del self._running[started.pid]
            raise
        becoming = self._becoming()
        command = marked(becoming.words, started.token, argv)

        def done(status: int | None, error: BaseException | None) -> None:
            self._running.pop(started.pid, None)
            self._on_end(started.pid, status, error)

        started.cancel = self._line.begin(
            self._run(started, becoming, command, own, terminal), done
        )
        return started

    async def _run(
        self,
        started: Started,
        becoming: Becoming,
        command: str,
        fds: Sequence[int],
        terminal: tuple[str, int, int] | None,
    ) -> int | None:
        stdin, stdout, stderr = fds
        if terminal is not None:
            os.close(stderr)
        try:
            connection = await self._line.connection()
            watch = await self._watcher(connection)
        except BaseException:
            close_all(fds[: 2 if terminal is not None else 3])
            raise
        session = started.session = Session(
            stdin, stdout, None if terminal is not None else stderr, becoming=becoming
        )
        watch.write(f"+ {started.token}\n".encode())
        try:
            await session.begin(connection, command, terminal=terminal)
            status = await session.ended()
        except BaseException:
            session.close()
            raise
        session.forget()
        if status is None:
            raise self._line.lost(session.error)
        watch.write(f"- {started.token}\n".encode())
        return status

    async def _watcher(self, connection: asyncssh.SSHClientConnection) -> Session:
        """What ends commands there, and lasts as long as the connection."""
        async with self._beginning:
            if self._watch is None or not self._watch.is_open:
                null = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
                becoming = self._becoming()
                watch = Session(None, null, os.dup(null), becoming=becoming)
                await watch.begin(connection, shlex.join([*becoming.words, *shell(WATCH)]))
                self._watch = watch
            return self._watch

    def kill(self, pid: int) -> None:
        """End a command there, with all that it has started."""
        self.signal(pid, signal.SIGKILL)
        if (started := self._running.get(pid)) is not None:
            self._line.soon(lambda: self._line.later(_HANG_UP_S, started.cancel))

    def signal(self, pid: int, number: int) -> None:
        """Signal a command there; one that has ended is no error."""
        if (started := self._running.get(pid)) is None:
            return
        name = signal.Signals(number).name.removeprefix("SIG")

        def send() -> None:
            if self._watch is not None:
                self._watch.write(f"{name} {started.token}\n".encode())

        self._line.soon(send)


class ChannelJobs(Jobs):
    """Jobs that are commands of a host's."""

    def __init__(self, commands: Commands) -> None:
        super().__init__()
        self._commands = commands

    def end(self, job: Job) -> None:
        """End a command there."""
        self._commands.kill(job.pid)

    def signal(self, job: Job, number: int) -> None:
        """Signal a command there."""
        self._commands.signal(job.pid, number)
