"""Events on a sheet: lines, and a live table below them where somebody looks at a terminal."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

from pytest_carthage import clock
from pytest_carthage.events import Event
from pytest_carthage.report.board import Board
from pytest_carthage.report.sentences import Lines
from pytest_carthage.report.sheet import Sheet
from pytest_carthage.report.table import frame

__all__ = ["Display"]

#: what ends sooner is not drawn at all (and rich is not imported)
DELAY_S = 0.4
_PERIOD_S = 0.1


class Display:
    """A reporter that writes in a thread of its own: who tells of something never waits for it.

    :param write: is given an event and its line, and writes that to the sheet.
    :param size: gives the columns and lines of a terminal that a table can be drawn on; None:
        there is none, and each event is a line.
    :param stays: of a live table's events, which ones also leave a line.
    """

    def __init__(
        self,
        sheet: Sheet,
        write: Callable[[Event, str], None],
        *,
        size: Callable[[], tuple[int, int]] | None = None,
        color: bool = True,
        stays: Callable[[Event], bool] = lambda event: False,
    ) -> None:
        self._sheet = sheet
        self._lines = Lines(write)
        #: None while it is paused, too
        self._size = size
        self._at_first = size
        self._color = color
        self._stays = stays
        self._news: deque[Event] = deque()
        self._board = Board()
        self._wake = threading.Event()
        self._closed = False
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None

    def event(self, event: Event, /) -> None:
        """Have it shown."""
        if self._closed:
            return
        self._news.append(event)
        if self._thread is None:
            with self._starting:
                if self._thread is None:
                    self._thread = threading.Thread(
                        target=self._run, name="carthage-progress", daemon=True
                    )
                    self._thread.start()
        self._wake.set()

    def catch_up(self) -> None:
        """Write the lines of all events so far, and take the table away."""
        with self._sheet.lock:
            while self._news:
                self._take(self._news.popleft())
            self._sheet.erase()

    def pause(self) -> None:
        """Draw no table from now on: somebody else has the terminal."""
        with self._sheet.lock:
            self.catch_up()
            self._size = None

    def resume(self) -> None:
        """Draw tables again, where there were some."""
        with self._sheet.lock:
            self._size = self._at_first

    def close(self) -> None:
        """Show what was told so far, and nothing more."""
        self.catch_up()
        self._closed = True
        self._wake.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(5)

    def _take(self, event: Event) -> None:
        if self._size is None:
            self._lines.event(event)
            return
        self._board.event(event)
        if self._stays(event):
            self._lines.event(event)

    def _run(self) -> None:
        wait_s: float | None = None
        while not self._closed:
            self._wake.wait(wait_s)
            self._wake.clear()
            with self._sheet.lock:
                while self._news:
                    self._take(self._news.popleft())
                due_s = self._lines.overdue()
                drawn_s = self._draw()
            waits = [one_s for one_s in (due_s, drawn_s) if one_s is not None]
            wait_s = min(waits, default=None)

    def _draw(self) -> float | None:
        """Draw what is worked on; gives when to draw again, None: with the next event."""
        busy_s = self._board.busy_since_s
        if self._size is None or busy_s is None:
            self._sheet.erase()
            if busy_s is None:
                self._board.rest()
            return None
        early_s = busy_s + DELAY_S - clock.unix_s()
        if early_s > 0:
            return early_s
        columns, lines = self._size()
        self._sheet.draw(
            frame(self._board, columns=columns - 1, lines=lines - 2, color=self._color)
        )
        return _PERIOD_S
