"""Ctrl-C, SIGTERM and SIGHUP: an orderly end; the second one a hard end."""

from __future__ import annotations

import signal

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
            "*carthage: signalled-pair: done in * s (teardown)",
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
    result.stdout.fnmatch_lines(["*carthage: *-pair: done in * s (teardown)"])
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
            "*carthage: *-pair: stage imported: failed after ?.?? s: *",
            "*carthage: *-pair: done in * s (teardown)",
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
    result.stdout.fnmatch_lines(["*carthage: *-slowly: failed after ?.?? s: *"])
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
            "*carthage: *: done in * s (teardown)",
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


#: asks a session to end in each moment of its end
ENDS = """
import os, signal
import pytest

MOMENT, NUMBERS = {moment!r}, {numbers}

def strike(moment):
    if moment == MOMENT:
        for number in NUMBERS:
            os.kill(os.getpid(), number)

@pytest.fixture(scope="session", autouse=True)
def outermost():
    yield
    strike("the last teardown")

@pytest.hookimpl(tryfirst=True)
def pytest_runtest_logfinish():
    strike("between tests")

@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish():
    strike("the end of the session")

@pytest.hookimpl(trylast=True)
def pytest_terminal_summary():
    strike("the summary")
"""


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
@pytest.mark.parametrize(
    "moment", ["the last teardown", "between tests", "the end of the session", "the summary"]
)
def test_signal_at_the_end_loses_neither_summary_nor_results(
    suite: Suite, moment: str, name: str
) -> None:
    suite.write(
        conftest=ENDS.format(moment=moment, numbers=f"[signal.{name}]"),
        test_it="def test_it(pair): pass\n",
    )
    result = suite.run_apart("--junitxml=results.xml")
    result.stdout.fnmatch_lines(["*= 1 passed*in *="])
    assert result.ret in (pytest.ExitCode.OK, pytest.ExitCode.INTERRUPTED)
    assert 'tests="1"' in (suite.path / "results.xml").read_text()
    result.stdout.no_fnmatch_line("*INTERNALERROR*")
    result.stderr.no_fnmatch_line("*Traceback*")
    assert suite.alive == []


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_second_signal_within_a_second_is_a_hard_stop_without_a_traceback(
    suite: Suite, name: str
) -> None:
    suite.write(
        conftest=SIGNALS
        + f"""
import pytest

@pytest.hookimpl(trylast=True)
def pytest_keyboard_interrupt():
    os.kill(os.getpid(), signal.{name})
""",
        test_it=f"""
        import os, signal, time

        def test_it(pair):
            os.kill(os.getpid(), signal.{name})
            time.sleep(30)
        """,
    )
    result = suite.run_apart("--carthage-name=hard")
    assert result.ret == 128 + signal.Signals[name]
    result.stdout.fnmatch_lines(
        ["carthage: hard stop; the supervisor now removes:", "  hard-pair: one, two"]
    )
    for lines in (result.stdout, result.stderr):
        lines.no_fnmatch_line("*Traceback*")
        lines.no_fnmatch_line("*INTERNALERROR*")
    assert wait_until_clean() == []
