"""How far things are, for a person who waits at a terminal: a table, as lines to draw.

Rich is imported when there is something to draw, and something that takes long.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from pytest_carthage import clock
from pytest_carthage.events import Kind
from pytest_carthage.report.board import Board, Row
from pytest_carthage.report.sentences import state
from pytest_carthage.report.times import seconds

if TYPE_CHECKING:
    from rich.text import Text

__all__ = ["frame"]

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


def frame(board: Board, *, columns: int, lines: int, color: bool) -> list[str]:
    """Draw a board as lines of at most so many columns.

    What happens in a test stands below its name, and what several environments have below theirs.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    table.add_column(width=1)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, ratio=1, overflow="ellipsis")
    table.add_column(justify="right", no_wrap=True)
    now_s = clock.unix_s()
    test = ""
    for row in _grouped(board.shown(max(3, lines - 1))):
        if row.test != test:
            test = row.test
            table.add_row("", Text(test, "dim"), "", "")
        table.add_row(*_cells(row, now_s, Text))
    done = board.count("done") + board.count("cached")
    table.add_row("", "", Text(f"{done} of {len(board.rows)} done", "dim"), "")
    drawn = io.StringIO()
    console = Console(
        file=drawn,
        width=columns,
        force_terminal=True,
        color_system="standard" if color else None,
        highlight=False,
        legacy_windows=False,
    )
    console.print(table)
    return drawn.getvalue().splitlines()[: max(3, lines)]


def _cells(row: Row, now_s: float, text: type[Text]) -> Sequence[Text]:
    style = _STYLE[row.kind]
    took_s = now_s - row.began_s if row.duration_s is None else row.duration_s
    words = " ".join((row.text or state(row.subject, row.kind)).split())
    return (
        text(_SIGN[row.kind], style),
        text(row.subject or row.environment, style if row.subject else "bold"),
        text(words, "dim"),
        text(seconds(max(0.0, took_s)), "dim"),
    )


def _grouped(rows: Iterable[Row]) -> list[Row]:
    """Rows by environment, an environment before its parts, and what tests do at the end."""
    order: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        order.setdefault((row.test, row.environment), []).append(row)
    groups = sorted(order.items(), key=lambda item: bool(item[0][0]))
    return [row for _, group in groups for row in sorted(group, key=lambda row: bool(row.subject))]
