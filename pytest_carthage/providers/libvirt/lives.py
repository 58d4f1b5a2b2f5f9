"""What a virtual machine does with its own power, as libvirt's events tell of it."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from pytest_carthage import clock
from pytest_carthage.errors import FabricError
from pytest_carthage.provider import End

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import Literal

    from pytest_carthage.channels.log import Log

    _How = Literal["panic", "reboot", "off", "emulator"]

__all__ = ["FOUND_OFF", "RESET", "Life"]

#: stands for an event of its own, which is not of virDomainEventType: the machine was reset
RESET = -1
#: the same: it was found to be off, by who had not heard when it went; its detail is the event's
#: that was missed
FOUND_OFF = -2
# virDomainEventType
_UNDEFINED, _STARTED, _SUSPENDED, _STOPPED, _CRASHED = 1, 2, 3, 5, 8
# virDomainEventSuspendedDetailType
_IO_ERROR = 2
# virDomainEventStoppedDetailType
_SHUT_DOWN, _DESTROYED, _SAVED, _FAILED, _FROM_SNAPSHOT = 0, 1, 4, 5, 6

#: what a kernel prints when it gives up
_PANIC = "Kernel panic - not syncing"
#: lines of a console that tell of it
_LAST_LINES = 15
#: among which the first line of that is looked for
_MOST_LINES = 200


class Life:
    """The lives of one machine, one after the other.

    :param log: what its console prints.
    :param settle: returns when the log has all that was printed by then.
    :param stall: is called when it stands, since its disk cannot be written to.
    """

    def __init__(
        self,
        log: Log,
        settle: Callable[[], Awaitable[None]] | None = None,
        stall: Callable[[], None] = lambda: None,
    ) -> None:
        self._log = log
        self._settle = settle
        self._stall = stall
        #: where in that its present life begins
        self.born = log.size
        #: ends that nobody has been told of yet, with the time of each
        self._untold: deque[tuple[_How, float]] = deque()
        self._news = asyncio.Event()
        #: set while it is off
        self.off = asyncio.Event()
        #: whether somebody here switches it just now
        self.is_switched = False
        self._has_panicked = False
        self._is_gone = False
        #: whether it is on, as far as is known
        self._is_on = False
        #: whether it was reset, and does not answer yet
        self._is_rebooting = False

    def begin(self) -> None:
        """It is about to be started."""
        self.off.clear()
        self._has_panicked = self._is_rebooting = False
        self._untold.clear()
        self.born = self._log.size

    def has_booted(self) -> None:
        """It answers, from a boot that is another one than the last."""
        self._is_rebooting = False

    def is_found_on(self) -> None:
        """It is on, be it that nobody has heard so."""
        self.off.clear()
        self._is_on = True

    def is_found_off(self) -> None:
        """It has gone off when nobody listened."""
        self.off.set()
        self._tell("off")

    def hear(self, event: int, detail: int) -> None:
        """Take in an event."""
        if event == FOUND_OFF and self._is_on:
            if _PANIC in self._log.tail(self.born):
                self._has_panicked = True
            self.hear(_STOPPED, detail)
        elif event == RESET:
            if self.is_switched:
                self.born = self._log.size
            # a kernel that goes on for a moment tries another way: one reboot, two resets
            elif not self._is_rebooting or _PANIC in self._log.tail(self.born):
                self._is_rebooting = True
                self._tell("reboot")
        elif event == _CRASHED:
            self._has_panicked = True
        elif event == _STOPPED and detail not in (_SAVED, _FROM_SNAPSHOT):
            self._is_on = False
            self.off.set()
            if self.is_switched:
                return
            if self._has_panicked:
                self._tell("panic")
            else:
                self._tell("emulator" if detail == _FAILED else "off")
        elif event == _STARTED:
            self.is_found_on()
        elif event == _SUSPENDED and detail == _IO_ERROR:
            self._stall()
        elif event == _UNDEFINED:
            self._is_gone = True
            self._news.set()

    def _tell(self, how: _How) -> None:
        self._untold.append((how, clock.unix_s()))
        self._news.set()

    def _end(self, how: _How, at_s: float) -> End:
        """An end, by what the console has told of it."""
        if how == "reboot":
            if _PANIC in self._log.tail(self.born):
                how = "panic"
            else:
                self.born = self._log.size
        last = self._of_panic() if how == "panic" else self.last_lines(1)
        return End(how=how, status=0, at_s=at_s, last="\n".join(last))

    def _of_panic(self) -> list[str]:
        """What its console has told of its panic: from the first line of that on."""
        lines = self.last_lines(_MOST_LINES)
        at = next((number for number, line in enumerate(lines) if _PANIC in line), None)
        if at is None or len(lines) - at <= _LAST_LINES:
            return lines[-_LAST_LINES:]
        return [lines[at], "...", *lines[1 - _LAST_LINES :]]

    def last_lines(self, count: int) -> list[str]:
        """What its console has printed last in this life."""
        lines = [line.strip() for line in self._log.last_lines(count * 3, self.born)]
        return [line for line in lines if line][-count:]

    def printed(self) -> str:
        """The end of what its console has printed in this life."""
        return self._log.tail(self.born)

    async def next(self) -> End:
        """Return when it has ended by itself.

        :raises FabricError: it is gone for good.
        """
        while not self._untold:
            if self._is_gone:
                raise FabricError("its domain is gone")
            self._news.clear()
            await self._news.wait()
        how, at_s = self._untold.popleft()
        if self._settle is not None:
            await self._settle()
        return self._end(how, at_s)
