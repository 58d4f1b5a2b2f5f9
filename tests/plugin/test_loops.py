"""Async functions that are run to their end, and time limits on what blocks."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections.abc import Iterator

import pytest

from pytest_carthage.plugin.alarm import Alarm
from pytest_carthage.plugin.loops import run_async


class Late(Exception):
    """It took too long."""


def test_async_function_runs_on_a_loop_of_this_thread() -> None:
    async def where() -> tuple[threading.Thread, float]:
        await asyncio.sleep(0)
        return threading.current_thread(), asyncio.get_running_loop().time()

    thread, at_s = run_async(where, timeout_s=None, late=Late())
    assert thread is threading.current_thread()
    assert at_s > 0


def test_async_function_under_a_running_loop_gets_a_thread_of_its_own() -> None:
    async def where() -> str:
        return threading.current_thread().name

    async def test() -> str:
        name: str = run_async(where, timeout_s=5.0, late=Late())
        return name

    assert asyncio.run(test()).startswith("stage")


def test_async_function_that_is_late_is_cancelled() -> None:
    ended: list[bool] = []

    async def slow() -> None:
        try:
            await asyncio.sleep(30)
        finally:
            ended.append(True)

    began = time.monotonic()
    with pytest.raises(Late):
        run_async(slow, timeout_s=0.05, late=Late())
    assert time.monotonic() - began < 10
    assert ended == [True]


def test_timeout_of_the_functions_own_is_not_taken_for_ours() -> None:
    async def slow() -> None:
        async with asyncio.timeout(0):
            await asyncio.sleep(30)

    with pytest.raises(TimeoutError):
        run_async(slow, timeout_s=30.0, late=Late())


@pytest.fixture
def alarm() -> Iterator[Alarm]:
    alarm = Alarm()
    yield alarm
    alarm.close()


def test_alarm_interrupts_what_blocks(alarm: Alarm) -> None:
    began = time.monotonic()
    with pytest.raises(Late), alarm.after(0.05, Late()):
        time.sleep(30)
    assert time.monotonic() - began < 10


def test_alarm_is_silent_once_its_block_is_over(alarm: Alarm) -> None:
    with alarm.after(0.02, Late()):
        pass
    time.sleep(0.05)
    with alarm.after(5.0, Late()):
        time.sleep(0.01)


def test_alarm_without_a_limit_takes_no_signal() -> None:
    alarm = Alarm()
    before = [signal.getsignal(number) for number in signal.valid_signals()]
    with alarm.after(None, Late()):
        assert [signal.getsignal(number) for number in signal.valid_signals()] == before


def test_alarm_elsewhere_than_in_the_main_thread_has_no_limit(alarm: Alarm) -> None:
    ended: list[bool] = []

    def block() -> None:
        with alarm.after(0.01, Late()):
            time.sleep(0.1)
        ended.append(True)

    thread = threading.Thread(target=block)
    thread.start()
    thread.join()
    assert ended == [True]


def test_signal_that_another_thread_has_taken_is_noticed() -> None:
    begun = threading.Event()

    async def slow() -> None:
        begun.set()
        await asyncio.sleep(8)

    def signal_another() -> None:
        begun.wait(10)
        time.sleep(0.05)
        signal.pthread_kill(threading.get_ident(), signal.SIGINT)

    threading.Thread(target=signal_another).start()
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run_async(slow, timeout_s=None, late=Late())
    assert time.monotonic() - began < 5
