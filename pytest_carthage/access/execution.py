"""Running a command over a channel: pipes out, status back."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from typing import TYPE_CHECKING

from pytest_carthage.errors import FabricError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_carthage.provider import Channel

#: how long output is awaited after a command has ended while something that it left behind
#: (a daemon) still holds the pipe
_DRAIN_S = 0.05
#: the same where that keeps on printing: no more than this of either
_CHATTER_S = 0.5
_CHATTER_BYTES = 1 << 20


class _Reader:
    """Collects what comes out of a pipe, without blocking the event loop."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._loop = asyncio.get_running_loop()
        self.parts: list[bytes] = []
        #: bytes that are still taken, once the command has ended
        self.left: int | None = None
        self.done = asyncio.Event()
        self.grew = asyncio.Event()
        os.set_blocking(fd, False)
        self._loop.add_reader(fd, self.read)

    def read(self) -> None:
        """Take what there is."""
        if self.done.is_set():
            return
        try:
            data = os.read(self._fd, 1 << 16)
        except BlockingIOError:
            return
        if data:
            self.parts.append(data)
            self.grew.set()
            if self.left is not None:
                self.left -= len(data)
        if not data or (self.left is not None and self.left <= 0):
            self.close()

    def close(self) -> None:
        """Stop reading."""
        if not self.done.is_set():
            self.done.set()
            self._loop.remove_reader(self._fd)
            os.close(self._fd)

    async def drain(self, deadline: float) -> None:
        """Wait for the end, until nothing more comes, or until ``deadline`` (monotonic)."""
        while not self.done.is_set() and time.monotonic() < deadline:
            self.grew.clear()
            waits = [asyncio.create_task(e.wait()) for e in (self.done, self.grew)]
            finished, pending = await asyncio.wait(
                waits, timeout=_DRAIN_S, return_when=asyncio.FIRST_COMPLETED
            )
            for task in pending:
                task.cancel()
            if not finished:
                break
        self.close()


async def _feed(fd: int, data: bytes) -> None:
    loop = asyncio.get_running_loop()
    os.set_blocking(fd, False)
    view = memoryview(data)
    try:
        while view:
            try:
                view = view[os.write(fd, view) :]
            except BlockingIOError:
                ready = asyncio.Event()
                loop.add_writer(fd, ready.set)
                try:
                    await ready.wait()
                finally:
                    loop.remove_writer(fd)
            except BrokenPipeError:
                return  # it does not want the rest
    finally:
        os.close(fd)


class Interrupted(Exception):
    """A command was killed at its time limit; has what it had printed."""

    def __init__(self, stdout: bytes, stderr: bytes) -> None:
        super().__init__("time limit")
        self.stdout = stdout
        self.stderr = stderr


async def execute(
    channel: Channel,
    argv: Sequence[str],
    *,
    user: str | None,
    cwd: str | None,
    env: Mapping[str, str],
    input: bytes | None,
    timeout_s: float | None,
) -> tuple[int, bytes, bytes]:
    """Run a command to its end; returns exit status, stdout, stderr.

    :raises Interrupted: it did not end in time; it and its process group were killed.
    :raises FabricError: it could not be started, with ``errno``.
    """
    in_read = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    in_write = -1
    if input is not None:
        os.close(in_read)
        in_read, in_write = os.pipe2(os.O_CLOEXEC)
    out_read, out_write = os.pipe2(os.O_CLOEXEC)
    err_read, err_write = os.pipe2(os.O_CLOEXEC)
    out, err = _Reader(out_read), _Reader(err_read)
    feeding: asyncio.Task[None] | None = None
    job: int | None = None
    try:
        try:
            request = channel.request(
                "run",
                fds=(in_read, out_write, err_write),
                argv=list(argv),
                user=user,
                cwd=cwd,
                env=dict(env),
            )
            job = (await request)[0]["job"]
        finally:
            for fd in (in_read, out_write, err_write):
                os.close(fd)
        if input is not None:
            feeding = asyncio.create_task(_feed(in_write, input))
            in_write = -1
        try:
            async with asyncio.timeout(timeout_s):
                reply, _ = await channel.request("wait", job=job)
        except TimeoutError:
            await channel.request("kill", job=job, signal=int(signal.SIGKILL))
            await _drain(out, err)
            raise Interrupted(b"".join(out.parts), b"".join(err.parts)) from None
        await _drain(out, err)
        job = None
        return reply["status"], b"".join(out.parts), b"".join(err.parts)
    except asyncio.CancelledError:
        if job is not None:
            with contextlib.suppress(FabricError):
                await channel.request("kill", job=job, signal=int(signal.SIGKILL))
        raise
    finally:
        if feeding is not None:
            feeding.cancel()
        elif in_write >= 0:
            os.close(in_write)
        out.close()
        err.close()


async def _drain(out: _Reader, err: _Reader) -> None:
    deadline = time.monotonic() + _CHATTER_S
    for reader in (out, err):
        reader.left = _CHATTER_BYTES
        while not reader.done.is_set() and time.monotonic() < deadline:
            before = len(reader.parts)
            reader.read()
            if len(reader.parts) == before:
                break
    if not (out.done.is_set() and err.done.is_set()):
        await asyncio.gather(out.drain(deadline), err.drain(deadline))
