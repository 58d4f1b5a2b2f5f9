"""What a bundle has of a test and of commands, as text and as records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pytest_carthage.handles.encoding import printable
from pytest_carthage.report.times import clock, iso

if TYPE_CHECKING:
    from pytest_carthage.handles.result import Result

__all__ = ["failed_lines", "headline", "record", "summary_line", "table", "transcript"]

#: characters of a command that one line shows
_COMMAND = 300


def summary_line(text: str) -> str:
    """Find the line of a test's report that says most: the first that pytest marks with E."""
    marked = [line[1:].strip() for line in text.splitlines() if line.startswith("E ")]
    return marked[0] if marked else text.strip().partition("\n")[0]


def failed_lines(text: str) -> list[str]:
    """Find the lines of a test's report that pytest marks, with their marks; else all of them."""
    lines = text.strip().splitlines()
    return [line for line in lines if line[:1] in (">", "E")] or lines


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows of equal keys as text in columns, the keys above them."""
    if not rows:
        return "(none)\n"
    keys = list(rows[0])
    cells = [keys, *([_cell(row.get(key)) for key in keys] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(keys))]
    return "".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        + "\n"
        for row in cells
    )


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


def headline(result: Result) -> str:
    """A command in one line: when and by whom it was run, and how it ended."""
    user = f" (as {result.user})" if result.user else ""
    text = result.text if len(result.text) <= _COMMAND else f"{result.text[:_COMMAND]} ..."
    line = printable(text).replace("\n", "\\n")
    ended = f"status {result.status} after {result.duration_s:.3f} s"
    return f"[{clock(result.started_at)}] $ {line}{user}: {ended}"


def transcript(result: Result) -> str:
    """A command as in a terminal: when and by whom it was run, how it ended, what it printed."""
    user = f" (as {result.user})" if result.user else ""
    head = (
        f"[{clock(result.started_at)}] $ {result.text}{user}\n"
        f"status {result.status} after {result.duration_s:.3f} s\n"
    )
    parts = [f"{head}--- output is secret\n" if result.secret else head]
    for name, text in (("stdout", result.stdout), ("stderr", result.stderr)):
        if text:
            parts.append(f"--- {name}\n{text if text.endswith(chr(10)) else text + chr(10)}")
    return printable("".join(parts))


def record(result: Result) -> dict[str, object]:
    """A command in plain values, for programs."""
    return {
        "command": result.command if isinstance(result.command, str) else list(result.command),
        "user": result.user,
        "secret": result.secret,
        "status": result.status,
        "stdout": result.stdout,
        "stderr": result.stderr,
        "started": iso(result.started_at),
        "duration_s": round(result.duration_s, 6),
    }
