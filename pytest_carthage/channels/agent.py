"""Running a command over a channel: pipes out, status back."""

from __future__ import annotations

import asyncio
import os
from functools import partial
from typing import TYPE_CHECKING

from pytest_carthage import clock
from pytest_carthage.errors import FabricError
from pytest_carthage.fabric.wire import frames

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pytest_carthage.handles.channel import Channel

#: how long output is awaited after a command has ended while something that it left behind
#: (a daemon) still holds the pipe
_DRAIN_S = 0.05
#: the same where that keeps on printing: no more than this of either
_CHATTER_S = 0.5
_CHATTER_BYTES = 1 << 20
#: the longest that output is waited for which a command has sent through another one
_LATE_S = 10.0
#: the same of what reads from nothing any more
_ENDING_S = 0.5
#: the longest that a machine may take to say that it is there, when a command had no more time
_SIGN_OF_LIFE_S = 5.0
#: a command that prints more than this is ended, unless its caller wants another limit
MOST_OUTPUT_BYTES = 64 << 20


class _Budget:
    """How much two pipes may bring together, and what is done when it is more."""

    def __init__(self, left: int | None) -> None:
        #: bytes that are still taken; None: as many as come
        self.left = left
        self.is_exceeded = False
        self.on_excess: Callable[[], None] = _nothing

    def take(self, size: int) -> None:
        if self.left is None:
            return
        self.left -= size
        if self.left < 0 and not self.is_exceeded:
            self.is_exceeded = True
            self.on_excess()


class _Reader:
    """Collects what comes out of a pipe, without blocking the event loop."""

    def __init__(self, fd: int, budget: _Budget) -> None:
        self._fd = fd
        #: by which the machine knows the pipe
        self.inode = os.fstat(fd).st_ino
        self._loop = asyncio.get_running_loop()
        self._budget = budget
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
            self._budget.take(len(data))
            if self.left is not None:
                self.left -= len(data)
        ends = not data or self._budget.is_exceeded
        if ends or (self.left is not None and self.left <= 0):
            self.close()

    def close(self) -> None:
        """Stop reading."""
        if not self.done.is_set():
            self.done.set()
            self._loop.remove_reader(self._fd)
            os.close(self._fd)

    async def drain(self, deadline: float) -> None:
        """Wait for the end, until nothing more comes, or until ``deadline`` (monotonic)."""
        while not self.done.is_set() and clock.monotonic_s() < deadline:
            self.grew.clear()
            waits = [asyncio.create_task(e.wait()) for e in (self.done, self.grew)]
            finished, pending = await asyncio.wait(
                waits, timeout=_DRAIN_S, return_when=asyncio.FIRST_COMPLETED
            )
            for task in pending:
                task.cancel()
            if not finished:
                break


class _Writer:
    """Feeds a pipe, without blocking the event loop, until all is in or nobody wants the rest."""

    def __init__(self, fd: int, data: bytes) -> None:
        self._fd = fd
        self._loop = asyncio.get_running_loop()
        self._rest = memoryview(data)
        os.set_blocking(fd, False)
        self._loop.add_writer(fd, self.write)

    def write(self) -> None:
        """Write what fits."""
        try:
            self._rest = self._rest[os.write(self._fd, self._rest) :]
        except BlockingIOError:
            return
        except BrokenPipeError:
            self._rest = self._rest[:0]
        if not self._rest:
            self.close()

    def close(self) -> None:
        """End the command's input."""
        if self._fd >= 0:
            self._loop.remove_writer(self._fd)
            os.close(self._fd)
            self._fd = -1


class Ended(tuple[int, bytes, bytes]):
    """How a command ended: status, standard output, standard error."""

    #: what still runs and has its output open, as command lines
    held_by: tuple[str, ...] = ()


class Interrupted(Exception):
    """A command was killed at its time limit; has what it had printed."""

    words = "time limit"

    def __init__(self, stdout: bytes, stderr: bytes) -> None:
        super().__init__(self.words)
        self.stdout = stdout
        self.stderr = stderr


class Overflowed(Interrupted):
    """A command was killed since it printed more than it may; has what it printed until then."""

    words = "output limit"


class Unanswered(Interrupted):
    """Its machine does not answer: whether a command has begun, and ended, is not known."""

    words = "no answer"


async def execute(
    channel: Channel,
    argv: Sequence[str],
    *,
    user: str | None,
    cwd: str | None,
    env: Mapping[str, str],
    input: bytes | None,
    timeout_s: float | None,
    most_output_bytes: int | None = MOST_OUTPUT_BYTES,
) -> Ended:
    """Run a command to its end; returns exit status, stdout, stderr.

    Whoever is cancelled meanwhile leaves no command behind: a request that is taken back ends what
    it began.

    :param most_output_bytes: of standard output and standard error together; None: any amount.
    :param timeout_s: from now on: it counts, too, until the machine has taken the command.
    :raises Interrupted: it did not end in time; it and its process group were killed.
    :raises Unanswered: it did not end in time, and the machine says nothing of it.
    :raises Overflowed: it printed more than it may; it and its process group were killed.
    :raises FabricError: it could not be started, with ``errno``.
    """
    budget = _Budget(most_output_bytes)
    theirs: list[int] = []
    readers: list[_Reader] = []
    writer: _Writer | None = None
    try:
        try:
            if input is None:
                theirs.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
            else:
                reading, writing = _pipe()
                theirs.append(reading)
                writer = _Writer(writing, input)
            for _ in ("stdout", "stderr"):
                reading, writing = _pipe()
                theirs.append(writing)
                readers.append(_Reader(reading, budget))
            async with asyncio.timeout(timeout_s) as limit:
                budget.on_excess = partial(_expire, limit)
                try:
                    reply, _ = await channel.request(
                        "run",
                        fds=theirs,
                        argv=list(argv),
                        user=user,
                        cwd=cwd,
                        env=dict(env),
                    )
                finally:
                    frames.close_all(theirs)
                    theirs.clear()
                reply, _ = await channel.request("wait", job=reply["job"])
        except TimeoutError:
            await _drain(readers)
            kind = Overflowed if budget.is_exceeded else Interrupted
            if not await _is_answering(channel):
                kind = Unanswered
            raise kind(*map(_collected, readers)) from None
        finally:
            budget.on_excess = _nothing
        await _drain(readers)
        held_by = await _take_late(channel, readers)
        out, err = map(_collected, readers)
        if budget.is_exceeded:
            raise Overflowed(out, err)
        ended = Ended((reply["status"], out, err))
        ended.held_by = held_by
        return ended
    finally:
        frames.close_all(theirs)
        for reader in readers:
            reader.close()
        if writer is not None:
            writer.close()


async def _is_answering(channel: Channel) -> bool:
    """Whether a machine says anything at all; one that is gone has said so."""
    if "ping" not in (getattr(channel, "operations", None) or ()):
        return True
    try:
        async with asyncio.timeout(_SIGN_OF_LIFE_S):
            await channel.request("ping")
    except TimeoutError:
        return False
    except FabricError as error:
        return not error.is_silence
    return True


def _nothing() -> None:
    pass


def _pipe() -> tuple[int, int]:
    """A pipe for a command, which may open its end by a name as ``/dev/stdout``, whoever it is."""
    reading, writing = os.pipe2(os.O_CLOEXEC)
    os.fchmod(writing, 0o666)
    return reading, writing


def _expire(limit: asyncio.Timeout) -> None:
    if not limit.expired():
        limit.reschedule(0.0)


def _collected(reader: _Reader) -> bytes:
    return b"".join(reader.parts)


async def _drain(readers: Sequence[_Reader]) -> None:
    """Take what has been printed, and what comes at once."""
    deadline = clock.monotonic_s() + _CHATTER_S
    for reader in readers:
        reader.left = _CHATTER_BYTES
        while not reader.done.is_set() and clock.monotonic_s() < deadline:
            before = len(reader.parts)
            reader.read()
            if len(reader.parts) == before:
                break
    if not all(reader.done.is_set() for reader in readers):
        await asyncio.gather(*(reader.drain(deadline) for reader in readers))


async def _take_late(channel: Channel, readers: Sequence[_Reader]) -> tuple[str, ...]:
    """Take what comes after a command's end from what it printed through, as ``tee``.

    What reads from a pipe that has ended prints the rest and ends, too. Whatever else still has
    the command's output open is a daemon, which is not waited for: it is returned.
    """
    open_ = [reader for reader in readers if not reader.done.is_set()]
    if not open_:
        return ()
    operations = getattr(channel, "operations", None) or ()
    deadline = clock.monotonic_s() + _LATE_S
    holders: list[dict[str, object]] = []
    while open_ and "holders" in operations:
        reply, _ = await channel.request("holders", inodes=[reader.inode for reader in open_])
        holders = reply["holders"]
        left_s = deadline - clock.monotonic_s()
        is_short = left_s > _LATE_S - _ENDING_S
        if left_s < 0 or not any(
            holder["is_piped"] or (holder["is_ending"] and is_short) for holder in holders
        ):
            break
        await asyncio.gather(*(reader.drain(deadline) for reader in open_))
        open_ = [reader for reader in open_ if not reader.done.is_set()]
    for reader in open_:
        reader.read()
        reader.close()
    return tuple(str(holder["args"]) for holder in holders) if open_ else ()
