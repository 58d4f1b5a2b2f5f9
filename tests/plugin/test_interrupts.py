"""Ctrl-C, SIGTERM and SIGHUP: an orderly end; the second one a hard end."""

from __future__ import annotations

import pytest

from tests.plugin.conftest import Suite, wait_until_clean

SIGNALS = """
import os, signal, threading, time

def soon(number, after_s=0.3):
    timer = threading.Timer(after_s, os.kill, (os.getpid(), number))
    timer.daemon = True
    timer.start()
"""

#: a teardown that takes its time
SLOW_TEARDOWN = (
    SIGNALS
    + """
import asyncio
from pytest_carthage.state.run import Run

destroy = Run.destroy

async def slowly(self, name):
    soon(signal.SIGINT)
    await asyncio.sleep({pause_s})
    await destroy(self, name)

Run.destroy = slowly
"""
)


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_signal_during_a_test_tears_down_in_good_order(suite: Suite, name: str) -> None:
    suite.write(
        conftest=SIGNALS,
        test_it=f"""
        import signal, time
        from conftest import soon

        def test_it(pair):
            soon(signal.{name})
            time.sleep(30)
        """,
    )
    result = suite.run_apart("--carthage-name=signalled")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(
        [
            "carthage: signalled-pair: done in * s (teardown)",
            "!* KeyboardInterrupt !*"
            if name == "SIGINT"
            else f"!*Terminated: {name}: the session ended in good order !*",
        ]
    )
    assert suite.alive == []


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_signal_during_a_command_tears_down_in_good_order(suite: Suite, name: str) -> None:
    suite.write(
        conftest=SIGNALS,
        test_it=f"""
        import signal
        from conftest import soon

        def test_it(pair):
            soon(signal.{name})
            pair.one.run("sleep 30")
        """,
    )
    result = suite.run_apart()
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(["carthage: *-pair: done in * s (teardown)"])
    assert suite.alive == []


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
@pytest.mark.parametrize("body", ["time.sleep(30)", "await pair.one.aio.run('sleep 30')"])
def test_signal_during_an_async_stage_ends_it_at_once(suite: Suite, name: str, body: str) -> None:
    suite.write(
        conftest=SIGNALS
        + f"""
@stage
async def imported(pair):
    soon(signal.{name})
    {body}
""",
        test_it="def test_it(imported): pass\n",
    )
    result = suite.run_apart()
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(
        [
            # in less than ten seconds, however long pytest takes to start and to end
            "carthage: *-pair: stage imported: failed after ?.?? s: *",
            "carthage: *-pair: done in * s (teardown)",
        ]
    )
    assert suite.alive == []


SLOW_BUILD = (
    SIGNALS
    + """
import asyncio
from pytest_carthage import Role
from pytest_carthage.model.task import machine_task

class Slow(Role):
    @machine_task
    async def start(self, machine):
        soon(signal.{name})
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            {on_cancel}
            raise

class Slowly(Pair):
    one = Machine(roles=[Slow()])

slowly = Slowly.fixture()
"""
)


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_signal_while_building_destroys_what_was_built(suite: Suite, name: str) -> None:
    suite.write(
        conftest=SLOW_BUILD.format(name=name, on_cancel="pass"),
        test_it="def test_it(slowly): pass\n",
    )
    result = suite.run_apart()
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(["carthage: *-slowly: failed after ?.?? s: *"])
    assert wait_until_clean() == []


def test_second_interrupt_while_building_is_a_hard_stop(suite: Suite) -> None:
    suite.write(
        conftest=SLOW_BUILD.format(
            name="SIGINT", on_cancel="soon(signal.SIGINT); await asyncio.sleep(30)"
        ),
        test_it="def test_it(slowly): pass\n",
    )
    result = suite.run_apart("--carthage-name=hard")
    assert result.ret == 130
    result.stdout.fnmatch_lines(
        ["carthage: hard stop; the supervisor now removes:", "  hard-slowly: one, two"]
    )
    assert wait_until_clean() == []


def test_interrupt_during_a_teardown_lets_it_end(suite: Suite) -> None:
    suite.write(conftest=SLOW_TEARDOWN.format(pause_s=0.8), test_it="def test_it(pair): pass\n")
    result = suite.run_apart()
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(
        [
            "carthage: teardown is under way and will be finished; once more for a hard stop",
            "carthage: *: done in * s (teardown)",
        ]
    )
    assert suite.alive == []


def test_second_interrupt_is_a_hard_stop_that_lists_what_is_left(suite: Suite) -> None:
    suite.write(
        conftest=SLOW_TEARDOWN.format(pause_s=30),
        test_it="""
        def test_it(pair):
            raise KeyboardInterrupt
        """,
    )
    result = suite.run_apart("--carthage-name=hard")
    assert result.ret == 130
    result.stdout.fnmatch_lines(
        ["carthage: hard stop; the supervisor now removes:", "  hard-pair: one, two"]
    )
    assert wait_until_clean() == []


def test_signals_are_pytests_own_again_after_the_last_layout(suite: Suite) -> None:
    suite.write(
        test_it="""
        import signal

        def test_before():
            assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL

        def test_with(pair):
            assert signal.getsignal(signal.SIGTERM) != signal.SIG_DFL
            assert signal.getsignal(signal.SIGINT) == signal.default_int_handler

        def test_after():
            assert signal.getsignal(signal.SIGTERM) != signal.SIG_DFL
        """,
        conftest="""
        import signal

        def pytest_unconfigure():
            print("SIGTERM is", signal.getsignal(signal.SIGTERM).name)
        """,
    )
    result = suite.run_apart("-s")
    result.assert_outcomes(passed=3)
    result.stdout.fnmatch_lines(["SIGTERM is SIG_DFL"])


def test_handler_of_somebody_else_is_left_alone(suite: Suite) -> None:
    suite.write(
        conftest="""
        import signal
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        """,
        test_it="""
        import signal

        def test_it(pair):
            assert signal.getsignal(signal.SIGTERM) == signal.SIG_IGN
        """,
    )
    suite.run_apart().assert_outcomes(passed=1)
