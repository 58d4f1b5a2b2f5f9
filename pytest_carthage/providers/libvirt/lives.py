"""What a virtual machine does with its own power, as libvirt's events tell of it."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from pytest_carthage import clock
from pytest_carthage.errors import FabricError
from pytest_carthage.provider import End

if TYPE_CHECKING:
    from typing import Literal

    from pytest_carthage.channels.log import Log

__all__ = ["RESET", "Life"]

#: stands for an event of its own, which is not of virDomainEventType: the machine was reset
RESET = -1
# virDomainEventType
_UNDEFINED, _STARTED, _STOPPED, _CRASHED = 1, 2, 5, 8
# virDomainEventStoppedDetailType
_SHUT_DOWN, _DESTROYED, _SAVED, _FAILED, _FROM_SNAPSHOT = 0, 1, 4, 5, 6

#: what a kernel prints when it gives up
_PANIC = "Kernel panic - not syncing"
#: lines of a console that tell of it
_LAST_LINES = 15


class Life:
    """The lives of one machine, one after the other.

    :param log: what its console prints.
    """

    def __init__(self, log: Log) -> None:
        self._log = log
        #: where in that its present life begins
        self.born = log.size
        #: ends that nobody has been told of yet
        self._untold: deque[End] = deque()
        self._news = asyncio.Event()
        #: set while it is off
        self.off = asyncio.Event()
        #: whether somebody here switches it just now
        self.is_switched = False
        self._has_panicked = False
        self._is_gone = False

    def begin(self) -> None:
        """It is about to be started."""
        self.off.clear()
        self._has_panicked = False
        self._untold.clear()
        self.born = self._log.size

    def is_found_off(self) -> None:
        """It has gone off when nobody listened."""
        self.off.set()
        self._tell("off")

    def hear(self, event: int, detail: int) -> None:
        """Take in an event."""
        if event == RESET:
            panicked = _PANIC in self._log.tail(self.born)
            self.born = self._log.size if not panicked else self.born
            if panicked and not self.is_switched:
                self._tell("panic")
            elif not self.is_switched:
                self._tell("reboot")
        elif event == _CRASHED:
            self._has_panicked = True
        elif event == _STOPPED and detail not in (_SAVED, _FROM_SNAPSHOT):
            self.off.set()
            if self.is_switched:
                return
            if self._has_panicked:
                self._tell("panic")
            else:
                self._tell("emulator" if detail == _FAILED else "off")
        elif event == _STARTED:
            self.off.clear()
        elif event == _UNDEFINED:
            self._is_gone = True
            self._news.set()

    def _tell(self, how: Literal["panic", "reboot", "off", "emulator"]) -> None:
        last = self.last_lines(_LAST_LINES if how == "panic" else 1)
        self._untold.append(End(how=how, status=0, at_s=clock.unix_s(), last="\n".join(last)))
        self._news.set()

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
        return self._untold.popleft()
