"""One command of a host's, over a channel of its own (RFC 4254, section 6)."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import signal
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from pytest_carthage.channels.ssh.becoming import Admission, Becoming
from pytest_carthage.channels.ssh.streams import Feed, Spill

if TYPE_CHECKING:
    import asyncssh

__all__ = ["Session", "carried_out"]

#: the longest that output is waited for when a command has ended: a daemon may hold it open
_LATE_S = 0.5
#: standard error, as asyncssh calls it
_STDERR = 1
#: what a terminal takes for the end of what is typed (VEOF, termios(3))
_END_OF_LINE = b"\x04"


class Session:
    """A command that runs there; owns the descriptors that are its streams here.

    It is what asyncssh calls a client session.
    """

    def __init__(
        self,
        stdin: int | None,
        stdout: int,
        stderr: int | None,
        *,
        becoming: Becoming | None = None,
        first: bytes = b"",
        is_own: bool = False,
    ) -> None:
        """Make one.

        :param stdin: None: nothing but what is :meth:`written <write>`.
        :param stderr: None: there is one stream for both.
        :param becoming: what stands before it, which may ask for a password.
        :param first: what is written before all that comes from its standard input.
        :param is_own: nobody else has what the descriptors lead to.
        """
        self._stdin = stdin
        #: what waits until the command itself reads
        self._first = first
        self._admission = Admission(becoming or Becoming())
        #: the stream on which a password is asked for
        self._asking = None if stderr is None else _STDERR
        self._spills: dict[int | None, Spill] = {None: Spill(stdout, self._crowded, is_own=is_own)}
        if stderr is not None:
            self._spills[_STDERR] = Spill(stderr, self._crowded)
        self._feed: Feed | None = None
        self._channel: asyncssh.SSHClientChannel[bytes] | None = None
        self._is_started = False
        self._status: int | None = None
        self._is_over = asyncio.Event()
        self._has_ended = asyncio.Event()
        self._error: Exception | None = None

    # what asyncssh calls

    def connection_made(self, channel: asyncssh.SSHClientChannel[bytes]) -> None:
        """It has a channel."""
        self._channel = channel

    def session_started(self) -> None:
        """The host has begun it."""
        self._is_started = True
        self._begin_input()

    def _begin_input(self) -> None:
        """Once the command itself reads."""
        if not self._admission.is_over:
            return
        first, self._first = self._first, b""
        if first:
            self.write(first)
        if self._stdin is not None:
            self._feed = Feed(self._stdin, self._give)
            self._stdin = None

    def data_received(self, data: bytes, datatype: int | None) -> None:
        """It has printed something."""
        if datatype == self._asking and not self._admission.is_over:
            data, answers = self._admission.take(data)
            for answer in answers:
                self._answer(answer)
            self._begin_input()
        self._spills.get(datatype, self._spills[None]).write(data)

    def _answer(self, answer: bytes | None) -> None:
        """Answer to who asks for a password."""
        assert self._channel is not None
        with contextlib.suppress(OSError):
            if answer is not None:
                self._channel.write(answer)
            elif self._asking is None:
                self._channel.write(_END_OF_LINE)
            else:
                self._channel.write_eof()

    def eof_received(self) -> bool:
        """It prints nothing more; its input stays open."""
        self._spills.get(self._asking, self._spills[None]).write(self._admission.left())
        for spill in self._spills.values():
            spill.end()
        self._is_over.set()
        return True

    def exit_status_received(self, status: int) -> None:
        """It has ended with a status."""
        self._status = status << 8
        self._has_ended.set()

    def exit_signal_received(self, signal_: str, core: bool, msg: str, lang: str) -> None:
        """A signal has ended it."""
        self._status = int(getattr(signal, f"SIG{signal_}", signal.SIGKILL))
        self._has_ended.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """The channel is closed."""
        self._error = exc
        self._has_ended.set()
        self._is_over.set()

    def pause_writing(self) -> None:
        """It takes no more for now."""
        if self._feed is not None:
            self._feed.pause()

    def resume_writing(self) -> None:
        """It takes more."""
        if self._feed is not None:
            self._feed.resume()

    def xon_xoff_requested(self, client_can_do: bool) -> None:
        """Nothing: output is paused by the channel's window."""

    # what others call

    async def begin(
        self,
        connection: asyncssh.SSHClientConnection,
        command: str,
        *,
        terminal: tuple[str, int, int] | None = None,
    ) -> None:
        """Start the command.

        :param terminal: its type, columns and rows; None: it has none.
        :raises asyncssh.Error: it is refused.
        """
        options: dict[str, Any] = {}
        if terminal is not None:
            kind, columns, rows = terminal
            options = {"term_type": kind, "term_size": (columns, rows)}
        try:
            await connection.create_session(
                lambda: cast("asyncssh.SSHClientSession[bytes]", self),
                command,
                encoding=None,
                **options,
            )
        except BaseException:
            self.close()
            raise

    @property
    def is_open(self) -> bool:
        """Whether it runs, as far as is known."""
        return self._channel is not None and not self._has_ended.is_set()

    def _crowded(self, is_crowded: bool) -> None:
        if self._channel is not None:
            if is_crowded:
                self._channel.pause_reading()
            else:
                self._channel.resume_reading()

    def _give(self, data: bytes | None) -> None:
        assert self._channel is not None
        try:
            if data is None:
                self._channel.write_eof()
            else:
                self._channel.write(data)
        except OSError:  # it reads nothing any more
            if self._feed is not None:
                self._feed.close()

    def write(self, data: bytes) -> None:
        """Write to its standard input, beside what is read from there."""
        if not self._is_started or not self._admission.is_over:
            self._first += data
        elif self._channel is not None:
            with contextlib.suppress(OSError):  # it reads nothing any more
                self._channel.write(data)

    def resize(self, columns: int, rows: int) -> None:
        """Have its terminal be of another size."""
        if self._channel is not None:
            self._channel.change_terminal_size(columns, rows)

    async def ended(self) -> int | None:
        """Its wait status, once all is written that it has printed; None: the way to it is lost."""
        await self._has_ended.wait()
        if self._status is not None:
            try:
                async with asyncio.timeout(_LATE_S):
                    await self._is_over.wait()
            except TimeoutError:
                pass
        for spill in self._spills.values():
            if self._is_over.is_set():
                spill.end()
                await spill.done.wait()
        return self._status

    @property
    def error(self) -> Exception | None:
        """Why the way to it was lost."""
        return self._error

    def close(self) -> None:
        """Let go of it, whatever it does."""
        if self._feed is not None:
            self._feed.close()
        if self._stdin is not None:
            os.close(self._stdin)
            self._stdin = None
        for spill in self._spills.values():
            spill.close()
        if self._channel is not None:
            self._channel.abort()

    def forget(self) -> None:
        """Its end is told; what it has left behind may go on printing."""
        if self._feed is not None:
            self._feed.close()
        if self._is_over.is_set():
            self.close()


async def carried_out(
    connection: asyncssh.SSHClientConnection, becoming: Becoming, argv: Sequence[str]
) -> tuple[int, bytes, bytes]:
    """Run a command to its end, which reads nothing; returns status, output and errors.

    :raises asyncssh.Error: it is refused, or the connection was lost.
    """
    with contextlib.ExitStack() as stack:
        streams = []
        for name in ("out", "err"):
            streams.append(os.memfd_create(name, os.MFD_CLOEXEC))
            stack.callback(os.close, streams[-1])
        stdin = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        session = Session(stdin, *map(os.dup, streams), becoming=becoming)
        try:
            await session.begin(connection, shlex.join([*becoming.words, *argv]))
            status = await session.ended()
        finally:
            session.close()
        if status is None:
            raise session.error or ConnectionResetError("the connection was lost")
        out, err = (os.pread(fd, os.fstat(fd).st_size, 0) for fd in streams)
        return os.waitstatus_to_exitcode(status), out, err
