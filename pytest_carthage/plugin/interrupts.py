"""Ctrl-C, SIGTERM and SIGHUP where layouts are used: an orderly end, and a hard one on demand.

pytest itself turns a KeyboardInterrupt into an orderly end of the session. What is added here:
SIGTERM and SIGHUP do the same, from the first layout to the end of the session; a teardown that has
begun is finished before the interrupt is raised; what pytest writes at the end of a session, its
summary and the files of results, is written; and a second signal during an orderly end stops at
once.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, Literal

import pytest

__all__ = ["Interrupts", "Terminated"]

_ASKS_TO_END = (signal.SIGTERM, signal.SIGHUP)


class Terminated(KeyboardInterrupt):
    """The process was asked to end by a signal other than Ctrl-C's."""


def _interrupt(number: int) -> KeyboardInterrupt:
    if number == signal.SIGINT:
        return KeyboardInterrupt()
    return Terminated(f"{signal.Signals(number).name}: the session ended in good order")


class Interrupts:
    """The signal handlers of a session, and a plugin of it; only the main thread can have some.

    Ctrl-C is pytest's, and that of loops which tests run, but while layouts come and go, and once
    the session is ending.

    :param say: shows a person one line.
    :param hard_stop: ends the process at once, having said what is left to the supervisor;
        given the signal's number.
    :param is_ours: whether layouts are used; where they are not, a signal does what it does to any
        other process.
    """

    def __init__(
        self,
        *,
        say: Callable[[str], None],
        hard_stop: Callable[[int], None],
        is_ours: Callable[[], bool] = lambda: True,
    ) -> None:
        self._say = say
        self._hard_stop = hard_stop
        self._is_ours = is_ours
        self._process = os.getpid()
        #: an orderly end has been asked for
        self.ending = False
        #: all tests have run: pytest ends the session, and writes what became of them
        self.finishing = False
        self._phase: Literal["building", "closing"] | None = None
        self._pending: int | None = None
        self._previous: dict[int, Any] = {}

    @pytest.hookimpl(tryfirst=True)
    def pytest_keyboard_interrupt(self) -> None:
        """Note that the session is ending: what comes now is a hard stop."""
        if self._is_ours():
            self.ending = True
            self._take(signal.SIGINT, signal.default_int_handler)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self) -> None:
        """Have a first signal not disturb what is still to be done and written."""
        self.finishing = True
        if self._is_ours():
            self._take(signal.SIGINT, signal.default_int_handler)

    @pytest.hookimpl(tryfirst=True)
    def pytest_unconfigure(self, config: pytest.Config) -> None:
        """Give all signals back: all is written."""
        terminal: Any = config.pluginmanager.getplugin("terminalreporter")
        if terminal is not None:
            terminal.flush()
        self.restore()

    def install(self) -> None:
        """Take SIGTERM and SIGHUP, unless somebody else has them already."""
        for number in _ASKS_TO_END:
            self._take(number, signal.SIG_DFL)

    def restore(self) -> None:
        """Give back what was taken, unless somebody else has it by now."""
        for number in list(self._previous):
            self._give_back(number)

    @contextlib.contextmanager
    def building(self) -> Iterator[None]:
        """Make a second Ctrl-C a hard stop: after the first, the builder cleans up."""
        with self._in("building"):
            yield

    @contextlib.contextmanager
    def closing(self) -> Iterator[None]:
        """Hold a first interrupt back until the end of the block; a second is a hard stop."""
        try:
            with self._in("closing"):
                yield
        finally:
            if self._pending is not None:
                number, self._pending = self._pending, None
                raise _interrupt(number)

    @contextlib.contextmanager
    def _in(self, phase: Literal["building", "closing"]) -> Iterator[None]:
        taken = self._take(signal.SIGINT, signal.default_int_handler)
        before, self._phase = self._phase, phase
        try:
            yield
        finally:
            self._phase = before
            if taken and not self.ending:
                self._give_back(signal.SIGINT)

    def _take(self, number: int, expected: Any) -> bool:
        if threading.current_thread() is not threading.main_thread():
            return False  # only the main thread can have handlers
        if number in self._previous or signal.getsignal(number) != expected:
            return False
        self._previous[number] = signal.signal(number, self._handle)
        return True

    def _give_back(self, number: int) -> None:
        previous = self._previous.pop(number)
        if signal.getsignal(number) == self._handle:
            signal.signal(number, previous)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process or not self._is_ours():
            self._give_back(number)
            signal.raise_signal(number)
            return
        again, self.ending = self.ending, True
        if again:
            self._hard_stop(number)
        elif self.finishing:
            self._say("the session is ending, and will be finished; once more for a hard stop")
        elif self._phase == "closing":
            self._pending = number
            self._say("teardown is under way and will be finished; once more for a hard stop")
        else:
            raise _interrupt(number)
