"""How far things are, for a person who waits: a live table, or one line per event.

Neither knows pytest: :class:`Lines` is given a function that writes a line, :class:`Table` an
open terminal. Rich is imported when there is something to draw, and something that takes long.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, TextIO

from pytest_carthage.report.events import Event, Kind

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["Board", "Lines", "Row", "Table", "sentence"]

_WORDS: dict[Kind, str] = {
    "start": "started",
    "done": "done",
    "cached": "cached",
    "failed": "failed",
    "note": "",
}


def seconds(duration_s: float) -> str:
    """Write a duration as people read it: ``0.31 s``, ``12 s``, ``2 min 05 s``."""
    if duration_s < 10:
        return f"{duration_s:.2f} s"
    if duration_s < 60:
        return f"{duration_s:.0f} s"
    minutes, rest = divmod(round(duration_s), 60)
    return f"{minutes} min {rest:02d} s"


def sentence(event: Event) -> str:
    """Write an event as one line, as in ``bakodi-shop: web: done in 0.31 s (podman)``."""
    text = " ".join(event.text.split())
    words = _WORDS[event.kind]
    if event.duration_s is not None and words:
        words += f" {'after' if event.kind == 'failed' else 'in'} {seconds(event.duration_s)}"
    if not words:
        words = text
    elif event.kind == "failed" and text:
        words += f": {text}"
    elif text:
        words += f" ({text})"
    return ": ".join(part for part in (event.environment, event.subject, words) if part)


class Lines:
    """Writes one line per event; a failure's text keeps to its first line."""

    def __init__(self, write: Callable[[str, Kind], None]) -> None:
        self._write = write

    def event(self, event: Event, /) -> None:
        """Write it."""
        self._write(sentence(event), event.kind)


@dataclass(slots=True, kw_only=True)
class Row:
    """One subject as it stands now."""

    environment: str
    subject: str
    kind: Kind
    text: str
    #: wall-clock time of its last start, seconds since the epoch
    began_s: float
    duration_s: float | None = None

    @property
    def active(self) -> bool:
        """Whether more is to be expected."""
        return self.kind in ("start", "note")


class Board:
    """The state of every subject, from the events so far."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, str], Row] = {}

    def event(self, event: Event, /) -> None:
        """Take it in."""
        key = event.environment, event.subject
        row = self.rows.get(key)
        if row is None or (event.kind == "start" and not row.active):
            self.rows.pop(key, None)
            self.rows[key] = row = Row(
                environment=event.environment,
                subject=event.subject,
                kind=event.kind,
                text=event.text,
                began_s=event.at_s,
            )
        elif event.kind == "note" and not row.active:
            return  # an afterthought does not reopen what is done
        row.kind = event.kind
        row.text = event.text
        if event.closes:
            row.duration_s = event.duration_s
            if row.duration_s is None:
                row.duration_s = event.at_s - row.began_s

    def shown(self, most: int) -> Iterator[Row]:
        """Rows to show in at most ``most`` lines: what is active or failed goes first."""
        rows = list(self.rows.values())
        if len(rows) > most:
            wanted = [row for row in rows if row.active or row.kind == "failed"][:most]
            rest = [row for row in rows if row not in wanted]
            spare = most - len(wanted)
            wanted += rest[len(rest) - spare :] if spare else []
            rows = [row for row in rows if row in wanted]
        yield from rows

    def count(self, kind: Kind) -> int:
        """Number of subjects in a state."""
        return sum(row.kind == kind for row in self.rows.values())


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
        now_s = time.time()
        with self._lock:
            done = self._board.count("done") + self._board.count("cached")
            total = len(self._board.rows)
            for row in self._board.shown(max(3, lines - 1)):
                style = _STYLE[row.kind]
                took_s = now_s - row.began_s if row.duration_s is None else row.duration_s
                table.add_row(
                    Text(_SIGN[row.kind], style),
                    Text(row.subject or row.environment, style if row.subject else "bold"),
                    Text(" ".join((row.text or _WORDS[row.kind]).split()), "dim"),
                    Text(seconds(max(0.0, took_s)), "dim"),
                )
        table.add_row("", "", Text(f"{done} of {total} done", "dim"), "")
        return table
