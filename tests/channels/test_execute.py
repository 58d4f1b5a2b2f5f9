"""A command's pipes and its end, over a channel that says what a test has it say."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import pytest

from pytest_carthage.channels.agent import Interrupted, Overflowed, execute
from pytest_carthage.errors import FabricError
from tests.fabric.peer import descriptors

R = TypeVar("R")
#: what a pipe holds, see pipe(7)
PIPE_BYTES = 65536


class Script:
    """A machine whose one command is what a test does with its three ends of pipes."""

    def __init__(self, command: Callable[[Script], Awaitable[int]]) -> None:
        self._command = command
        self.asked: list[str] = []
        #: what the command was given: standard input, output and errors
        self.fds: list[int] = []
        self._task: asyncio.Task[int] | None = None

    async def request(
        self, op: str, /, *, fds: Sequence[int] = (), **fields: Any
    ) -> tuple[dict[str, Any], list[int]]:
        """Answer as an agent."""
        self.asked.append(op)
        if op == "run":
            self.fds = [os.dup(fd) for fd in fds]
            self._task = asyncio.create_task(self._run())
            return {"job": 1, "pid": 1}, []
        assert (op, fields) == ("wait", {"job": 1})
        assert self._task is not None
        return {"status": await asyncio.shield(self._task)}, []

    async def _run(self) -> int:
        try:
            return await self._command(self)
        finally:
            self.hang_up()

    def hang_up(self, *numbers: int) -> None:
        """Close ends; all of them, if none is named."""
        for number in numbers or range(len(self.fds)):
            if self.fds[number] >= 0:
                os.close(self.fds[number])
                self.fds[number] = -1

    async def write(self, data: bytes, number: int = 1) -> None:
        """Print all of it, as fast as it is taken."""
        view = memoryview(data)
        os.set_blocking(self.fds[number], False)
        while view:
            try:
                view = view[os.write(self.fds[number], view) :]
            except BlockingIOError:
                await asyncio.sleep(0)

    async def read(self) -> bytes:
        """Read standard input to its end."""
        parts = []
        os.set_blocking(self.fds[0], False)
        while True:
            try:
                parts.append(os.read(self.fds[0], 1 << 16))
            except BlockingIOError:
                await asyncio.sleep(0)
                continue
            if not parts[-1]:
                return b"".join(parts)

    async def end(self) -> None:
        """Be gone."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])


def run(
    command: Callable[[Script], Awaitable[int]], *, kept: int = 0, **more: Any
) -> tuple[int, bytes, bytes]:
    """Run a command; no descriptor is left open, and no callback raises.

    :param kept: number of descriptors that the command keeps itself.
    """
    plain: dict[str, Any] = {"user": None, "cwd": None, "env": {}, "input": None, "timeout_s": 20}

    troubles: list[dict[str, Any]] = []

    async def go() -> tuple[int, bytes, bytes]:
        asyncio.get_running_loop().set_exception_handler(lambda loop, each: troubles.append(each))
        script = Script(command)
        try:
            return await execute(script, ["it"], **{**plain, **more})
        finally:
            await script.end()

    before = descriptors(collects=False)
    try:
        return asyncio.run(go())
    finally:
        assert descriptors(collects=False) <= before + kept or descriptors() <= before + kept
        assert troubles == []


async def says(script: Script) -> int:
    await script.write(b"out")
    await script.write(b"err", 2)
    return 3


def test_status_output_and_errors_are_given() -> None:
    assert run(says) == (3, b"out", b"err")


async def echoes(script: Script) -> int:
    await script.write(await script.read())
    return 0


@pytest.mark.parametrize("size", [0, 1, PIPE_BYTES, PIPE_BYTES + 1, 1 << 20])
def test_input_of_any_size_passes_whole_while_output_comes(size: int) -> None:
    data = os.urandom(size)
    assert run(echoes, input=data) == (0, data, b"")


def test_command_without_input_reads_nothing() -> None:
    assert run(echoes) == (0, b"", b"")


async def listens_to_nothing(script: Script) -> int:
    script.hang_up(0)
    await script.write(b"done")
    return 0


def test_input_that_nobody_reads_is_no_error() -> None:
    assert run(listens_to_nothing, input=bytes(1 << 20)) == (0, b"done", b"")


def test_input_that_a_daemon_holds_and_never_reads_is_given_up() -> None:
    kept: list[int] = []

    async def leaves_it(script: Script) -> int:
        kept.append(os.dup(script.fds[0]))
        return 0

    assert run(leaves_it, kept=1, input=bytes(1 << 20)) == (0, b"", b"")
    os.set_blocking(kept[0], False)
    while os.read(kept[0], 1 << 20):  # to its end: nobody holds the other one
        pass
    os.close(kept[0])


def test_output_that_is_closed_early_ends_by_itself() -> None:
    async def closes(script: Script) -> int:
        await script.write(b"out")
        script.hang_up(1)
        await script.write(b"err", 2)
        await asyncio.sleep(0.02)
        return 0

    assert run(closes) == (0, b"out", b"err")


# the end


def test_output_that_is_in_the_pipe_at_the_end_is_not_lost() -> None:
    async def prints_and_ends(script: Script) -> int:
        os.write(script.fds[1], bytes(PIPE_BYTES))
        return 0

    assert run(prints_and_ends) == (0, bytes(PIPE_BYTES), b"")


def left_behind(chatter: bytes, pause_s: float) -> Callable[[Script], Awaitable[int]]:
    """A command that leaves a daemon behind, which says this again and again."""

    async def command(script: Script) -> int:
        kept = os.dup(script.fds[1])

        async def daemon() -> None:
            try:
                for _ in range(1000):
                    await asyncio.sleep(pause_s)
                    if chatter:
                        os.write(kept, chatter)
            except BrokenPipeError:
                pass
            finally:
                os.close(kept)

        script.daemon = asyncio.create_task(daemon())  # type: ignore[attr-defined]
        await script.write(b"started\n")
        return 0

    return command


@pytest.mark.parametrize(("chatter", "pause_s"), [(b"", 0.01), (b"x", 0.01), (b"x" * 4096, 0)])
def test_daemon_that_holds_the_output_is_not_waited_for(chatter: bytes, pause_s: float) -> None:
    async def go() -> tuple[int, bytes, bytes]:
        script = Script(left_behind(chatter, pause_s))
        try:
            return await execute(
                script, ["it"], user=None, cwd=None, env={}, input=None, timeout_s=20
            )
        finally:
            await script.end()
            script.daemon.cancel()  # type: ignore[attr-defined]
            await asyncio.wait([script.daemon])  # type: ignore[attr-defined]

    before = descriptors()
    took_s = []
    for _ in range(3):
        begin = time.monotonic()
        status, out, _ = asyncio.run(go())
        took_s.append(time.monotonic() - begin)
        assert (status, out[:8]) == (0, b"started\n")
    # one that is silent is given up sooner than one that keeps on printing
    assert min(took_s) < (2.0 if chatter else 0.4)
    assert descriptors() <= before


# limits


def never(printed: bytes) -> Callable[[Script], Awaitable[int]]:
    async def command(script: Script) -> int:
        await script.write(printed)
        await asyncio.Event().wait()
        return 0

    return command


def test_time_limit_has_what_was_printed_until_then() -> None:
    with pytest.raises(Interrupted, match=r"^time limit$") as caught:
        run(never(b"so far"), timeout_s=0.1)
    assert (caught.value.stdout, caught.value.stderr) == (b"so far", b"")
    assert not isinstance(caught.value, Overflowed)


@pytest.mark.parametrize("limit_s", [0, -1])
def test_time_that_is_over_already_is_a_time_limit(limit_s: float) -> None:
    with pytest.raises(Interrupted):
        run(never(b""), timeout_s=limit_s)


def test_time_limit_in_the_turn_of_the_end_is_one_or_the_other() -> None:
    """Whichever: nothing is left, and what was printed is there."""
    seen: set[str] = set()
    printed: set[bytes] = set()
    for turn in range(30):

        async def ends_about_then(script: Script) -> int:
            await script.write(b"x")
            await asyncio.sleep(0.005)
            return 0

        try:
            assert run(ends_about_then, timeout_s=0.003 * 1.25**turn) == (0, b"x", b"")
            seen.add("in time")
        except Interrupted as late:
            printed.add(late.stdout)
            seen.add("late")
    assert seen == {"in time", "late"}
    assert printed == {b"x"}


@pytest.mark.parametrize(("out", "err"), [(101, 0), (0, 101), (60, 41)])
def test_output_limit_counts_both_and_has_what_came(out: int, err: int) -> None:
    async def prints(script: Script) -> int:
        await script.write(b"o" * out)
        await script.write(b"e" * err, 2)
        await asyncio.Event().wait()
        return 0

    with pytest.raises(Overflowed, match=r"^output limit$") as caught:
        run(prints, most_output_bytes=100)
    assert (caught.value.stdout, caught.value.stderr) == (b"o" * out, b"e" * err)


def test_output_up_to_the_limit_is_no_excess() -> None:
    async def prints(script: Script) -> int:
        await script.write(b"o" * 60)
        await script.write(b"e" * 40, 2)
        return 0

    assert run(prints, most_output_bytes=100) == (0, b"o" * 60, b"e" * 40)
    assert run(prints, most_output_bytes=None) == (0, b"o" * 60, b"e" * 40)


class Sudden(Script):
    """A command that prints and ends before anybody has looked."""

    async def request(
        self, op: str, /, *, fds: Sequence[int] = (), **fields: Any
    ) -> tuple[dict[str, Any], list[int]]:
        if op == "run":
            self.fds = [os.dup(fd) for fd in fds]
            return {"job": 1, "pid": 1}, []
        os.write(self.fds[1], b"x" * 5000)
        self.hang_up()
        return {"status": 0}, []


@pytest.mark.parametrize("most", [4999, 5000])
def test_excess_that_is_found_at_the_end_is_told(most: int) -> None:
    async def go() -> int:
        plain: dict[str, Any] = {"user": None, "cwd": None, "env": {}, "input": None}
        done = await execute(Sudden(says), ["it"], timeout_s=5, most_output_bytes=most, **plain)
        return len(done[1])

    before = descriptors()
    if most == 5000:
        assert asyncio.run(go()) == 5000
    else:
        with pytest.raises(Overflowed, match="output limit") as caught:
            asyncio.run(go())
        assert len(caught.value.stdout) == 5000
    assert descriptors() <= before


def test_flood_is_stopped_and_not_kept() -> None:
    async def floods(script: Script) -> int:
        with contextlib.suppress(BrokenPipeError):
            while True:
                await script.write(bytes(PIPE_BYTES))
        return 0

    with pytest.raises(Overflowed) as caught:
        run(floods, most_output_bytes=1 << 20)
    assert 1 << 20 < len(caught.value.stdout) < (1 << 20) + (1 << 18)


# what goes wrong


def test_command_that_cannot_be_started_is_told_and_leaves_nothing() -> None:
    class Refusing(Script):
        async def request(
            self, op: str, /, *, fds: Sequence[int] = (), **fields: Any
        ) -> tuple[dict[str, Any], list[int]]:
            refused = FabricError("no such file")
            refused.errno = errno.ENOENT
            raise refused

    async def go() -> None:
        with pytest.raises(FabricError, match="no such file") as caught:
            await execute(
                Refusing(says),
                ["it"],
                user=None,
                cwd=None,
                env={},
                input=bytes(1 << 20),
                timeout_s=5,
            )
        assert caught.value.errno == errno.ENOENT

    before = descriptors()
    asyncio.run(go())
    assert descriptors() <= before


@pytest.mark.parametrize("nth", [1, 2, 3])
def test_pipes_that_cannot_be_made_leave_nothing(nth: int, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe2, made = os.pipe2, 0

    def some(flags: int) -> tuple[int, int]:
        nonlocal made
        made += 1
        if made == nth:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return pipe2(flags)

    monkeypatch.setattr("pytest_carthage.channels.agent.os.pipe2", some)
    with pytest.raises(OSError, match="Too many open files"):
        run(says, input=b"x")


@pytest.mark.parametrize("turns", range(6))
def test_caller_cancelled_at_any_turn_leaves_nothing(turns: int) -> None:
    async def go() -> list[str]:
        script = Script(never(b"x"))
        plain: dict[str, Any] = {"cwd": None, "env": {}, "input": b"y" * 100_000}
        task = asyncio.create_task(execute(script, ["it"], user=None, timeout_s=None, **plain))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        task.cancel()  # whoever cancels twice is as impatient as whoever does so once
        with contextlib.suppress(asyncio.CancelledError):
            await task
        assert task.cancelled()
        await script.end()
        return script.asked

    before = descriptors()
    asked = asyncio.run(go())
    assert asked == ["run", "wait"][: len(asked)]
    assert descriptors() <= before


def test_other_end_that_goes_away_while_a_command_runs_is_told() -> None:
    async def goes_away(script: Script) -> int:
        await script.write(b"x")
        raise FabricError("machine 'web': it is gone")

    with pytest.raises(FabricError, match="it is gone"):
        run(goes_away, input=b"y")
