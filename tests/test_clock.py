"""The machine's clocks, while a test has the process at another time."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import pytest
import time_machine
from freezegun import freeze_time

from pytest_carthage import clock
from pytest_carthage.portal import Loop, Portal

ELSEWHERE = "2030-01-01"
Journey = Callable[[], AbstractContextManager[object]]


@contextlib.contextmanager
def patched() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name in ("time", "time_ns", "monotonic", "perf_counter"):
            patch.setattr(time, name, lambda: 1893456000)
        yield


journeys = pytest.mark.parametrize(
    "journey",
    [
        lambda: freeze_time(ELSEWHERE),
        lambda: time_machine.travel(ELSEWHERE, tick=False),
        patched,
    ],
    ids=["freezegun", "time-machine", "monkeypatch"],
)


@journeys
def test_clocks_go_on_while_time_is_frozen(journey: Journey) -> None:
    before = time.time(), time.monotonic()
    with journey():
        assert time.time() == 1893456000
        unix, monotonic = clock.unix_s(), clock.monotonic_s()
        nanoseconds = clock.unix_ns()
        time.sleep(0.02)
        assert clock.monotonic_s() - monotonic >= 0.02
        assert clock.unix_s() > unix
    after = time.time(), time.monotonic()
    tick_s = 10 * time.clock_getres(5)  # a busy machine is late with its ticks
    assert before[0] - tick_s <= unix <= after[0]
    assert before[1] <= monotonic <= after[1]
    assert before[0] - tick_s <= nanoseconds / 1e9 <= after[0]


@journeys
def test_clock_that_is_imported_while_time_is_frozen_is_the_machine_s(
    journey: Journey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "pytest_carthage.clock")
    with journey():
        late = importlib.import_module("pytest_carthage.clock")
        assert late is not clock
        assert abs(late.unix_s() - clock.unix_s()) < 1
        assert abs(late.monotonic_s() - clock.monotonic_s()) < 1


@journeys
def test_event_loops_wait_while_time_is_frozen(journey: Journey) -> None:
    async def wait() -> str:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.01):
                await asyncio.Event().wait()
        await asyncio.sleep(0.01)
        return "over"

    with journey():
        portal = Portal()
        try:
            assert portal.call(wait) == "over"
        finally:
            portal.close()
        with asyncio.Runner(loop_factory=Loop) as runner:
            assert runner.run(wait()) == "over"
