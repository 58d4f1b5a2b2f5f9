"""Progress of a command, on standard error: its standard output may be for a program."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator

from pytest_carthage.events import Reporter, Silent
from pytest_carthage.report.display import Display
from pytest_carthage.report.sheet import Sheet, size_of
from pytest_carthage.report.times import clock

__all__ = ["showing"]


@contextlib.contextmanager
def showing(*, quiet: bool) -> Iterator[Reporter]:
    """Show the events that the yielded reporter gets: a table on a terminal, lines elsewhere."""
    if quiet:
        yield Silent()
        return
    sheet = Sheet(sys.stderr)
    if not sys.stderr.isatty() or os.environ.get("TERM", "dumb") == "dumb":
        display = Display(sheet, lambda event, line: sheet.add(f"{clock(event.at_s)[:8]} {line}"))
    else:
        display = Display(
            sheet,
            lambda event, line: sheet.add(line),
            size=lambda: size_of(sys.stderr.fileno()),
            color="NO_COLOR" not in os.environ,
            stays=lambda event: event.is_milestone,
        )
    try:
        yield display
    finally:
        display.close()
