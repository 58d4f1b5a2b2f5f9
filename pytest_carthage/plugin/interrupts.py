"""Ctrl-C, SIGTERM and SIGHUP while layouts live: an orderly end, and a hard one on demand.

pytest itself turns a KeyboardInterrupt into an orderly end of the session. What is added here:
SIGTERM and SIGHUP do the same; a teardown that has begun is finished before the interrupt is
raised; and a second signal during an orderly end stops at once.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, Literal

__all__ = ["Interrupts", "Terminated", "end_in_order_while"]

_ASKS_TO_END = (signal.SIGTERM, signal.SIGHUP)


class Terminated(KeyboardInterrupt):
    """The process was asked to end by a signal other than Ctrl-C's."""


def _interrupt(number: int) -> KeyboardInterrupt:
    if number == signal.SIGINT:
        return KeyboardInterrupt()
    return Terminated(f"{signal.Signals(number).name}: the session ended in good order")


class Interrupts:
    """The signal handlers of a session; only the main thread can have some.

    :param say: shows a person one line.
    :param hard_stop: ends the process at once, having said what is left to the supervisor;
        given the signal's number.
    """

    def __init__(self, *, say: Callable[[str], None], hard_stop: Callable[[int], None]) -> None:
        self._say = say
        self._hard_stop = hard_stop
        #: an orderly end has been asked for
        self.ending = False
        self._phase: Literal["building", "closing"] | None = None
        self._pending: int | None = None
        self._previous: dict[int, Any] = {}

    def install(self) -> None:
        """Take SIGTERM and SIGHUP, unless somebody else has them already."""
        for number in _ASKS_TO_END:
            self._take(number, signal.SIG_DFL)

    def restore(self) -> None:
        """Give back what was taken."""
        for number in list(self._previous):
            signal.signal(number, self._previous.pop(number))

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
            if taken:
                signal.signal(signal.SIGINT, self._previous.pop(signal.SIGINT))

    def _take(self, number: int, expected: Any) -> bool:
        if threading.current_thread() is not threading.main_thread():
            return False  # only the main thread can have handlers
        if number in self._previous or signal.getsignal(number) != expected:
            return False
        self._previous[number] = signal.signal(number, self._handle)
        return True

    def _handle(self, number: int, frame: FrameType | None) -> None:
        again, self.ending = self.ending, True
        if again and self._phase is not None:
            self._hard_stop(number)
        elif self._phase == "closing":
            self._pending = number
            self._say("teardown is under way and will be finished; once more for a hard stop")
        else:
            raise _interrupt(number)


def end_in_order_while(holds: Callable[[], bool]) -> Callable[[], None]:
    """Have SIGTERM and SIGHUP end this process in good order while a condition holds.

    For the controller of pytest-xdist, whose workers have the layouts: it has them end, and
    waits for them. Where the condition does not hold, the signal does what it does to any other
    process.

    :returns: gives the signals back that were taken.
    """

    def handle(number: int, frame: FrameType | None) -> None:
        if holds():
            raise _interrupt(number)
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)

    def restore() -> None:
        for number in taken:
            if signal.getsignal(number) == handle:
                signal.signal(number, signal.SIG_DFL)

    taken = []
    if threading.current_thread() is threading.main_thread():
        taken = [each for each in _ASKS_TO_END if signal.getsignal(each) == signal.SIG_DFL]
    for number in taken:
        signal.signal(number, handle)
    return restore
