"""Progress of a command, on standard error: its standard output may be for a program."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator

from pytest_carthage.events import Kind, Reporter, Silent
from pytest_carthage.report.sentences import Lines
from pytest_carthage.report.table import Table

__all__ = ["showing"]


@contextlib.contextmanager
def showing(*, quiet: bool) -> Iterator[Reporter]:
    """Show the events that the yielded reporter gets: a table on a terminal, lines elsewhere."""
    lines = Lines(_write)
    if quiet:
        yield Silent()
    elif not sys.stderr.isatty() or os.environ.get("TERM", "dumb") == "dumb":
        yield lines
    else:
        table = Table(sys.stderr)
        table.open()
        try:
            yield table
        finally:
            for event in table.close():
                lines.event(event)


def _write(line: str, kind: Kind) -> None:
    print(line, file=sys.stderr, flush=True)
