"""A command, a shell or a subsystem that an ssh client has asked for."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
import struct
import termios
from collections.abc import Callable, Coroutine
from typing import Any

import asyncssh

from pytest_carthage.errors import FabricError
from pytest_carthage.fabric.wire import frames
from pytest_carthage.fabric.wire.channel import AsyncChannel
from pytest_carthage.ssh import programs
from pytest_carthage.ssh.streams import Sink, Source

__all__ = ["Session"]

#: signals as ssh calls them, see RFC 4254, section 6.10
_NAMES = {int(number): number.name.removeprefix("SIG") for number in signal.Signals}


class Session(asyncssh.SSHServerSession[bytes]):
    """One of a connection; ends when its command does.

    :param user: of the machine, who runs it.
    :param who: the machine, for messages.
    :param over: is called with it when it is.
    """

    def __init__(
        self, channel: AsyncChannel, user: str, who: str, over: Callable[[Session], None]
    ) -> None:
        self._channel = channel
        self._user = user
        self._who = who
        self._over = over
        self._client: asyncssh.SSHServerChannel[bytes] | None = None
        self._is_gone = False
        self._argv: list[str] = []
        self._is_sftp = False
        #: rows, columns, and those in pixels, of the terminal that was asked for
        self._size: tuple[int, int, int, int] | None = None
        self._job: int | None = None
        self._master = -1
        self._sink: Sink | None = None
        self._early: list[bytes] = []
        self._has_early_eof = False
        self._sources: list[Source] = []
        self._outputs = 0
        self._drained = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    # what the client asks for

    def connection_made(self, chan: asyncssh.SSHServerChannel[bytes]) -> None:
        """Take in by which channel the client is reached."""
        self._client = chan

    def pty_requested(
        self, term_type: str, term_size: tuple[int, int, int, int], term_modes: Any
    ) -> bool:
        """Run what is to come on a terminal."""
        self._size = _rows_first(term_size)
        return True

    def shell_requested(self) -> bool:
        """Run the user's shell."""
        self._argv = [*programs.SHELL]
        return True

    def exec_requested(self, command: str) -> bool:
        """Run a command, by the user's shell."""
        self._argv = [*programs.COMMAND, command]
        return True

    def subsystem_requested(self, subsystem: str) -> bool:
        """Serve files."""
        if subsystem != "sftp":
            return False
        self._is_sftp = True
        return True

    def session_started(self) -> None:
        """Begin."""
        self._task = asyncio.create_task(self._run())

    # what the client does meanwhile

    def data_received(self, data: bytes, datatype: asyncssh.DataType) -> None:
        """Have the command read what the client sent."""
        if self._sink is None:
            self._early.append(data)
        else:
            self._sink.write(data)

    def eof_received(self) -> bool:
        """The client sends no more; it is still sent to."""
        if self._sink is None:
            self._has_early_eof = True
        elif self._size is None:  # a terminal has no end, as by sshd
            self._sink.end()
        return True

    def terminal_size_changed(self, width: int, height: int, pixwidth: int, pixheight: int) -> None:
        """The client's window has another size."""
        self._size = _rows_first((width, height, pixwidth, pixheight))
        self._resize()

    def signal_received(self, signal: str) -> None:
        """Send the command a signal, by its name without SIG."""
        for number, name in _NAMES.items():
            if name == signal:
                _in_background(self.kill(number))

    def break_received(self, msec: int) -> bool:
        """Send a break to a terminal, which is an interrupt there."""
        if self._sink is None or self._size is None:
            return False
        self._sink.write(b"\x03")
        return True

    def pause_writing(self) -> None:
        """The client takes no more for now."""
        for source in self._sources:
            source.pause()

    def resume_writing(self) -> None:
        """The client takes more."""
        for source in self._sources:
            source.resume()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone: whoever prints to it hears of that from the kernel."""
        self._client = None
        self._is_gone = True
        self._close_streams()

    # what we do

    async def _run(self) -> None:
        try:
            status = await self._command()
        except FabricError as error:
            self._say(str(error))
            self._exit(255)
        except asyncio.CancelledError:
            self._exit(255)
            raise
        else:
            self._exit(status)
        finally:
            self._close_streams()
            self._over(self)

    async def _command(self) -> int:
        """Run it; returns its status."""
        await self._start()
        assert self._job is not None
        try:
            reply, _ = await self._channel.request("wait", job=self._job)
        finally:
            self._job = None
        if self._master >= 0:  # what others print to it later is nobody's
            for source in self._sources:
                source.drain()
        else:
            await self._drained.wait()
        return int(reply["status"])

    async def _start(self) -> None:
        assert self._client is not None
        env = programs.variables(self._client, on_terminal=self._size is not None)
        fields: dict[str, Any] = {"argv": self._argv, "user": self._user, "env": env}
        if self._size is not None:
            fields |= {"tty": True, "rows": self._size[0], "cols": self._size[1]}
            reply, fds = await self._channel.request("run", **fields)
            self._master = fds[0]
            self._resize()
            self._read(fds[0], None)
            self._take_input(os.dup(fds[0]))
        else:
            theirs: list[int] = []
            try:
                (reading, ours), *outputs = (os.pipe2(os.O_CLOEXEC) for _ in range(3))
                theirs = [reading, *(writing for _, writing in outputs)]
                for fd in theirs[1:]:  # it may open them by a name as /dev/stdout, whoever it is
                    os.fchmod(fd, 0o666)
                self._read(outputs[0][0], None)
                self._read(outputs[1][0], asyncssh.EXTENDED_DATA_STDERR)
                self._take_input(ours)
                op = "run"
                if self._is_sftp:
                    op, fields["argv"] = await programs.file_server(self._channel, self._who)
                reply, _ = await self._channel.request(op, fds=theirs, **fields)
            finally:
                frames.close_all(theirs)
        self._job = reply["job"]
        if self._is_gone:  # meanwhile
            await self.kill(signal.SIGHUP)

    def _read(self, fd: int, datatype: int | None) -> None:
        def take(data: bytes) -> None:
            if self._client is not None:
                self._client.write(data, datatype)

        def ended() -> None:
            self._outputs -= 1
            if not self._outputs:
                self._drained.set()

        self._outputs += 1
        self._sources.append(Source(fd, take, ended))

    def _take_input(self, fd: int) -> None:
        """Have what was sent, and is to come, be written there."""
        self._sink = Sink(fd, self._crowded)
        for data in self._early:
            self._sink.write(data)
        self._early.clear()
        if self._has_early_eof:
            self.eof_received()

    def _crowded(self, is_crowded: bool) -> None:
        if self._client is not None:
            (self._client.pause_reading if is_crowded else self._client.resume_reading)()

    def _resize(self) -> None:
        if self._master >= 0 and self._size is not None:
            with contextlib.suppress(OSError):
                # the kernel tells the command by a SIGWINCH
                fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", *self._size))

    def _say(self, text: str) -> None:
        if self._client is not None:
            end = "\r\n" if self._size is not None else "\n"
            self._client.write(
                f"pytest-carthage: {text}{end}".encode(),
                None if self._size is not None else asyncssh.EXTENDED_DATA_STDERR,
            )

    def _exit(self, status: int) -> None:
        if self._client is None:
            return
        if status >= 0:
            self._client.exit(status)
        elif -status in _NAMES:
            self._client.exit_with_signal(_NAMES[-status])
        else:
            self._client.exit(128 - status)

    async def kill(self, number: int) -> None:
        """Send a signal to the command and what is in its process group, while it runs."""
        if self._job is not None:
            await self._channel.request("kill", job=self._job, signal=int(number))

    async def wait(self) -> None:
        """Wait for its end."""
        if self._task is not None:
            await asyncio.wait([self._task])

    def close(self) -> None:
        """End it now."""
        if self._task is not None:
            self._task.cancel()

    def _close_streams(self) -> None:
        self._master = -1
        for source in self._sources:
            source.close()
        if self._sink is not None:
            self._sink.close()


#: the event loop itself forgets those that wait
_kept: set[asyncio.Future[Any]] = set()


def _in_background(work: Coroutine[Any, Any, None]) -> None:
    task = asyncio.ensure_future(work)
    _kept.add(task)
    task.add_done_callback(_done)


def _done(task: asyncio.Future[Any]) -> None:
    _kept.discard(task)
    if not task.cancelled():
        task.exception()  # the command has ended, or the machine: that is told elsewhere


def _rows_first(size: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
    width, height, pixwidth, pixheight = size
    return height, width, pixwidth, pixheight
