"""Waiting for many things at once, with as few calls of the kernel as can be."""

from __future__ import annotations

import heapq
import select
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Loop:
    """Calls functions when descriptors are ready, or some time has passed."""

    def __init__(self) -> None:
        self._poll = select.poll()
        self._calls: dict[int, Callable[[], None]] = {}
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._order = 0
        #: is called at the end of each turn
        self.each_turn: Callable[[], None] = lambda: None

    def watch(self, fd: int, events: int, call: Callable[[], None]) -> None:
        """Call a function while a descriptor is ready for any of these events (poll(2))."""
        self._calls[fd] = call
        self._poll.register(fd, events)

    def unwatch(self, fd: int) -> None:
        """Call nothing for it any more."""
        if self._calls.pop(fd, None) is not None:
            self._poll.unregister(fd)

    def later(self, seconds: float, call: Callable[[], None]) -> None:
        """Call a function after some time."""
        self._order += 1
        heapq.heappush(self._timers, (time.monotonic() + seconds, self._order, call))

    def turn(self) -> None:
        """Wait for anything to be done, and do it."""
        wait_ms = None
        if self._timers:
            wait_ms = max(0.0, self._timers[0][0] - time.monotonic()) * 1000 + 1
        for fd, _ in self._poll.poll(wait_ms):
            call = self._calls.get(fd)
            if call is not None:
                call()
        while self._timers and self._timers[0][0] <= time.monotonic():
            heapq.heappop(self._timers)[2]()
        self.each_turn()
