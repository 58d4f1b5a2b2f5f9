"""Signals while layouts are built and torn down, without a session."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from pytest_carthage.plugin.interrupts import Interrupts, Terminated

ENDING = (signal.SIGTERM, signal.SIGHUP)


class Calls:
    """What interrupts say, and the hard stop that they come to."""

    def __init__(self) -> None:
        self.messages: list[str] = []
        self.stops: list[int] = []
        self.interrupts = Interrupts(say=self.messages.append, hard_stop=self.stops.append)


@pytest.fixture
def calls() -> Iterator[Calls]:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, *ENDING)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in ENDING:
        signal.signal(number, signal.SIG_DFL)
    calls = Calls()
    yield calls
    calls.interrupts.restore()
    for number, handler in before.items():
        signal.signal(number, handler)


def test_handlers_are_given_back(calls: Calls) -> None:
    calls.interrupts.install()
    assert all(signal.getsignal(number) is not signal.SIG_DFL for number in ENDING)
    calls.interrupts.restore()
    assert all(signal.getsignal(number) is signal.SIG_DFL for number in ENDING)
    with calls.interrupts.building():
        assert signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_handler_of_somebody_else_is_left_alone(calls: Calls) -> None:
    theirs = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        calls.interrupts.install()
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, theirs)


@pytest.mark.parametrize("number", ENDING)
def test_signal_that_asks_to_end_is_an_interrupt_that_says_which(
    calls: Calls, number: signal.Signals
) -> None:
    calls.interrupts.install()
    with pytest.raises(Terminated, match=f"^{number.name}: the session ended in good order$"):
        signal.raise_signal(number)
    assert calls.interrupts.ending


def test_first_interrupt_of_a_build_is_raised_and_the_second_is_hard(calls: Calls) -> None:
    def build() -> None:
        with calls.interrupts.building():
            try:
                signal.raise_signal(signal.SIGINT)
            finally:
                assert calls.stops == []
                signal.raise_signal(signal.SIGINT)
                assert calls.stops == [signal.SIGINT]

    with pytest.raises(KeyboardInterrupt):
        build()


def test_first_interrupt_of_a_teardown_waits_for_its_end(calls: Calls) -> None:
    steps: list[str] = []

    def close() -> None:
        with calls.interrupts.closing():
            signal.raise_signal(signal.SIGINT)
            steps.append("went on")

    with pytest.raises(KeyboardInterrupt):
        close()
    assert steps == ["went on"]
    assert calls.stops == []
    assert calls.messages == [
        "teardown is under way and will be finished; once more for a hard stop"
    ]


def test_second_interrupt_of_a_teardown_is_hard(calls: Calls) -> None:
    def close() -> None:
        with calls.interrupts.closing():
            signal.raise_signal(signal.SIGINT)
            assert calls.stops == []
            signal.raise_signal(signal.SIGINT)
            assert calls.stops == [signal.SIGINT]

    with pytest.raises(KeyboardInterrupt):
        close()


def test_interrupt_during_the_teardown_of_a_session_that_ends_is_hard(calls: Calls) -> None:
    calls.interrupts.ending = True
    with calls.interrupts.closing():
        signal.raise_signal(signal.SIGINT)
    assert calls.stops == [signal.SIGINT]


def test_interrupt_that_waits_is_not_raised_twice(calls: Calls) -> None:
    with pytest.raises(KeyboardInterrupt), calls.interrupts.closing():
        signal.raise_signal(signal.SIGINT)
    with calls.interrupts.closing():
        pass


def test_other_threads_have_no_handlers(calls: Calls) -> None:
    def build() -> None:
        calls.interrupts.install()
        with calls.interrupts.building():
            pass

    thread = threading.Thread(target=build)
    thread.start()
    thread.join()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


@pytest.mark.parametrize("number", [signal.SIGINT, *ENDING])
def test_second_signal_is_hard_whatever_pytest_does_between(
    calls: Calls, number: signal.Signals
) -> None:
    calls.interrupts.install()
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(number)  # in a test
    calls.interrupts.pytest_keyboard_interrupt()
    assert calls.stops == []
    signal.raise_signal(number)  # nothing is built or torn down now
    assert calls.stops == [number]
    calls.interrupts.restore()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_second_interrupt_right_after_a_build_is_hard(calls: Calls) -> None:
    with pytest.raises(KeyboardInterrupt), calls.interrupts.building():
        signal.raise_signal(signal.SIGINT)
    signal.raise_signal(signal.SIGINT)
    assert calls.stops == [signal.SIGINT]


@pytest.mark.parametrize("number", [signal.SIGINT, *ENDING])
def test_first_signal_does_not_disturb_the_end_of_a_session(
    calls: Calls, number: signal.Signals
) -> None:
    calls.interrupts.install()
    calls.interrupts.pytest_sessionfinish()
    signal.raise_signal(number)
    with calls.interrupts.closing():
        pass  # nor is it raised by what pytest tears down last
    assert calls.stops == []
    assert calls.messages == [
        "the session is ending, and will be finished; once more for a hard stop"
    ]
    signal.raise_signal(number)
    assert calls.stops == [number]


def test_who_took_a_signal_since_keeps_it(calls: Calls) -> None:
    calls.interrupts.install()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    calls.interrupts.restore()
    assert [signal.getsignal(each) for each in ENDING] == [signal.SIG_IGN, signal.SIG_DFL]


def test_session_without_layouts_is_left_to_the_signal(
    calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupts = Interrupts(
        say=calls.messages.append, hard_stop=calls.stops.append, is_ours=lambda: False
    )
    interrupts.install()
    interrupts.pytest_keyboard_interrupt()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    raised: list[int] = []
    handler = signal.getsignal(signal.SIGHUP)
    assert callable(handler)
    monkeypatch.setattr(signal, "raise_signal", raised.append)
    handler(signal.SIGHUP, None)
    assert raised == [signal.SIGHUP]
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_DFL
    interrupts.restore()


def test_process_that_was_forked_is_left_to_the_signal(calls: Calls) -> None:
    calls.interrupts.install()
    child = os.fork()
    if child == 0:
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGTERM
