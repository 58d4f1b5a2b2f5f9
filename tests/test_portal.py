"""The event loop in its own thread, and calls that wait for it."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import contextvars
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_carthage.fabric import syscalls
from pytest_carthage.portal import Portal


@pytest.fixture
def portal() -> Iterator[Portal]:
    portal = Portal()
    yield portal
    portal.close()


async def double(number: int, *, plus: int = 0) -> int:
    await asyncio.sleep(0)
    return 2 * number + plus


def test_call_gives_what_the_coroutine_returns_or_raises(portal: Portal) -> None:
    async def fail() -> None:
        raise LookupError("not here")

    assert portal.call(double, 4, plus=1) == 9
    with pytest.raises(LookupError, match="not here"):
        portal.call(fail)
    with pytest.raises(TypeError, match="missing 1 required positional argument"):
        portal.call(double)  # type: ignore[call-arg]


def test_time_limit_of_the_coroutine_is_its_own(
    portal: Portal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pytest_carthage.portal._LOOK_S", 0.01)

    async def late(error: Exception | None = None) -> str:
        await asyncio.sleep(0.05)
        if error is not None:
            raise error
        return "late, and there"

    assert portal.call(late) == "late, and there"
    with pytest.raises(TimeoutError, match="after 3 s"):
        portal.call(late, TimeoutError("no answer after 3 s"))


def test_call_sees_the_variables_of_its_context(portal: Portal) -> None:
    variable = contextvars.ContextVar("variable", default="none")

    async def read() -> str:
        return variable.get()

    variable.set("the caller's")
    assert portal.call(read) == "the caller's"


def test_call_of_what_cancels_itself_is_cancelled(portal: Portal) -> None:
    async def cancel() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(1)

    with pytest.raises(concurrent.futures.CancelledError):
        portal.call(cancel)
    assert portal.call(double, 1) == 2


def test_call_from_the_loop_itself_is_refused(portal: Portal) -> None:
    async def nest() -> int:
        return portal.call(double, 1)

    with pytest.raises(RuntimeError, match=r"^double was called on the event loop that has to"):
        portal.call(nest)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_loop_survives_an_exit_in_a_task(portal: Portal, error: type[BaseException]) -> None:
    async def leave() -> None:
        raise error

    with pytest.raises(error):
        portal.call(leave)
    assert portal.call(double, 1) == 2


def interrupt_when(event: threading.Event, receiver: int | None = None) -> None:
    """Interrupt this process, or one of its threads, when an event has come."""

    def go() -> None:
        event.wait(10)
        time.sleep(0.05)  # the main thread waits by now
        signal.pthread_kill(receiver or threading.main_thread().ident or 0, signal.SIGINT)

    threading.Thread(target=go).start()


def test_interrupt_is_raised_when_all_is_in_order_and_nothing_else_disturbs_that(
    portal: Portal,
) -> None:
    begun = threading.Event()
    steps: list[str] = []

    async def build() -> None:
        begun.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            steps.append("cancelled")
            await asyncio.sleep(0.3)
            steps.append("in order")
            raise

    interrupt_when(begun)
    with pytest.raises(KeyboardInterrupt):
        portal.call(build)
    assert steps == ["cancelled", "in order"]


def test_interrupt_that_the_kernel_gives_to_another_thread_is_noticed(portal: Portal) -> None:
    # as it does when the main thread has another signal, such as SIGCHLD, to take just then
    begun = threading.Event()

    async def wait() -> None:
        begun.set()
        await asyncio.sleep(8)

    interrupt_when(begun, portal.call(_thread))
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        portal.call(wait)
    assert time.monotonic() - began < 5


async def _thread() -> int:
    return threading.get_ident()


def test_interrupted_call_that_never_ends_is_given_up(
    portal: Portal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pytest_carthage.portal._END_S", 0.2)
    begun, end = threading.Event(), asyncio.Event()

    async def stubborn() -> None:
        begun.set()
        while not end.is_set():
            try:
                await end.wait()
            except asyncio.CancelledError:
                continue

    interrupt_when(begun)
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        portal.call(stubborn)
    assert time.monotonic() - began < 5
    portal.loop.call_soon_threadsafe(end.set)


def test_close_cancels_what_is_left_and_may_come_twice() -> None:
    portal = Portal()
    ended = threading.Event()

    async def linger() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()

    asyncio.run_coroutine_threadsafe(linger(), portal.loop)
    assert portal.call(double, 1) == 2
    portal.close()
    assert ended.is_set()
    assert portal.loop.is_closed()
    portal.close()


def test_loop_goes_where_a_thread_goes_that_it_follows(
    portal: Portal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed: list[str] = []
    monkeypatch.setattr(Portal, "_followed", None)
    monkeypatch.setattr("pytest_carthage.portal._change_folder", changed.append)
    monkeypatch.chdir(tmp_path)
    portal.call(double, 1)
    assert changed == []
    portal.follow(threading.get_ident())
    portal.call(double, 1)
    assert changed == [str(tmp_path)]


def test_all_portals_follow_the_thread_whose_working_folder_is_its_own(
    portal: Portal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def folder() -> Path:
        return Path.cwd()

    seen: list[Path] = []

    def work() -> None:
        syscalls.unshare(syscalls.CLONE_FS)
        with contextlib.closing(Portal()) as other:
            other.follow(threading.get_ident())
            os.chdir(tmp_path)
            seen.append(portal.call(folder))

    monkeypatch.setattr(Portal, "_followed", None)
    monkeypatch.chdir(Path.cwd())  # where it is again at the end
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [tmp_path]
