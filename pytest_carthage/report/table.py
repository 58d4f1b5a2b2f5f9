"""How far things are, for a person who waits at a terminal: a table that is drawn again and again.

Rich is imported when there is something to draw, and something that takes long.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, TextIO

from pytest_carthage import clock
from pytest_carthage.events import Event, Kind
from pytest_carthage.report.board import Board
from pytest_carthage.report.sentences import WORDS
from pytest_carthage.report.times import seconds

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["Table"]

_STYLE: dict[Kind, str] = {
    "start": "bold",
    "note": "bold",
    "done": "green",
    "cached": "cyan",
    "failed": "bold red",
}
_SIGN: dict[Kind, str] = {
    "start": "…",
    "note": "…",
    "done": "✓",
    "cached": "=",
    "failed": "✗",
}


class Table:
    """Draws a board again and again while it is open, and leaves nothing of it behind.

    :param stream: a terminal; it is not closed.
    :param delay_s: what takes less is not drawn at all (and rich is not imported).
    """

    def __init__(self, stream: TextIO, *, delay_s: float = 0.4, period_s: float = 0.1) -> None:
        self._stream = stream
        self._delay_s = delay_s
        self._period_s = period_s
        self._lock = threading.Lock()
        self._board = Board()
        self._closing: list[Event] = []
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def event(self, event: Event, /) -> None:
        """Take it in; it is drawn with the next frame."""
        with self._lock:
            self._board.event(event)
            # what stays on the terminal: whole environments, stages, and whatever failed
            if event.closes and (
                not event.subject or event.subject.startswith("stage ") or event.kind == "failed"
            ):
                self._closing.append(event)

    def open(self) -> None:
        """Start drawing; the terminal's cursor must be at the beginning of a line."""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._draw, name="carthage-progress", daemon=True)
        self._thread.start()

    def close(self) -> list[Event]:
        """Stop drawing; returns the events that deserve a line that stays."""
        if self._thread is not None:
            self._stop.set()
            self._thread.join(5)
            self._thread = None
        with self._lock:
            kept, self._closing = self._closing, []
            self._board = Board()
        return kept

    def _draw(self) -> None:
        if self._stop.wait(self._delay_s):
            return
        from rich.console import Console
        from rich.live import Live

        console = Console(file=self._stream, force_terminal=True, highlight=False)
        with Live(
            console=console,
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        ) as live:
            # a process that is killed here must not leave a terminal without a cursor
            console.show_cursor(True)
            while True:
                live.update(self._frame(console.size.height - 2), refresh=True)
                if self._stop.wait(self._period_s):
                    return

    def _frame(self, lines: int) -> RenderableType:
        from rich.table import Table as RichTable
        from rich.text import Text

        table = RichTable.grid(padding=(0, 2))
        table.add_column(width=1)
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True, ratio=1, overflow="ellipsis")
        table.add_column(justify="right", no_wrap=True)
        now_s = clock.unix_s()
        with self._lock:
            done = self._board.count("done") + self._board.count("cached")
            total = len(self._board.rows)
            for row in self._board.shown(max(3, lines - 1)):
                style = _STYLE[row.kind]
                took_s = now_s - row.began_s if row.duration_s is None else row.duration_s
                table.add_row(
                    Text(_SIGN[row.kind], style),
                    Text(row.subject or row.environment, style if row.subject else "bold"),
                    Text(" ".join((row.text or WORDS[row.kind]).split()), "dim"),
                    Text(seconds(max(0.0, took_s)), "dim"),
                )
        table.add_row("", "", Text(f"{done} of {total} done", "dim"), "")
        return table
