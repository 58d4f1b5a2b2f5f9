"""How a machine ends by itself, for those who want to know."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from pytest_carthage.fabric.wire.server import Reply

if TYPE_CHECKING:
    from pytest_carthage.fabric.container.ending import Ending
    from pytest_carthage.fabric.wire.server import Connection

#: of ends that nobody is told of
_MOST = 64


class News:
    """Ends of one machine: each is told to all who wait, or else kept for who comes first."""

    def __init__(self) -> None:
        #: (connection, request)
        self._watchers: list[tuple[Connection, int]] = []
        #: what nobody has been told of yet, the oldest first
        self._untold: deque[Ending] = deque(maxlen=_MOST)

    def add_watcher(self, connection: Connection, request: int) -> None:
        """Somebody wants to know how it ends, or how it has ended while nobody wanted to."""
        if self._untold:
            connection.answer(request, Reply(**self._untold.popleft().fields()))
            return
        self._watchers.append((connection, request))
        connection.on_close.append(lambda: self.remove_watcher(connection, request))

    def remove_watcher(self, connection: Connection, request: int) -> None:
        """Somebody does not want to know any more; who is unknown is ignored."""
        if (connection, request) in self._watchers:
            self._watchers.remove((connection, request))

    def tell(self, ending: Ending) -> None:
        """Tell who wants to know, or will."""
        watchers, self._watchers = self._watchers, []
        if not watchers:
            self._untold.append(ending)
        for connection, request in watchers:
            connection.answer(request, Reply(**ending.fields()))

    def forget(self) -> None:
        """What was not told is of a life that is over."""
        self._untold.clear()

    def refuse(self, error: BaseException) -> None:
        """There will be no news any more."""
        watchers, self._watchers = self._watchers, []
        for connection, request in watchers:
            connection.refuse(request, error)
