"""Progress on pytest's terminal: never in the way of pytest's own output, or of capture."""

from __future__ import annotations

import contextlib
import os
import threading
from collections import deque
from collections.abc import Iterator
from typing import Any, TextIO

import pytest

from pytest_carthage.events import Event, Kind
from pytest_carthage.report.sentences import Lines
from pytest_carthage.report.table import Table

__all__ = ["Screen"]

_MARKUP: dict[Kind, dict[str, bool]] = {
    "start": {},
    "note": {},
    "done": {"green": True},
    "cached": {"cyan": True},
    "failed": {"red": True},
}


class Screen:
    """A reporter: a live table on a terminal, one line per event elsewhere.

    Silent with ``-q`` and in the workers of pytest-xdist. Events come from any thread; they are
    shown at once while somebody waits (see :meth:`showing`), and with the next wait otherwise.
    """

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        plugins = config.pluginmanager
        self._terminal: pytest.TerminalReporter | None = plugins.getplugin("terminalreporter")
        self._capture: Any = plugins.getplugin("capturemanager")
        self._lock = threading.RLock()
        self._late: deque[Event] = deque(maxlen=1000)
        self._depth = 0
        self._table: Table | None = None
        self._stream: TextIO | None = None
        self._lines = Lines(self._write)
        self._silent = (
            self._terminal is None or config.get_verbosity() < 0 or hasattr(config, "workerinput")
        )

    def event(self, event: Event, /) -> None:
        """Show it, now or with the next wait."""
        if self._silent:
            return
        with self._lock:
            if not self._depth:
                self._late.append(event)
            elif self._table is not None:
                self._table.event(event)
            else:
                self._lines.event(event)

    @contextlib.contextmanager
    def showing(self) -> Iterator[None]:
        """Show events while the caller waits for what makes them; may be nested."""
        if self._silent:
            yield
            return
        with self._lock:
            self._depth += 1
            if self._depth == 1:
                self._open()
        try:
            yield
        finally:
            with self._lock:
                self._depth -= 1
                table, self._table = (None, self._table) if self._depth else (self._table, None)
            if table is not None:
                for event in table.close():
                    self._lines.event(event)

    def say(self, text: str, **markup: bool) -> None:
        """Write a line of our own between pytest's."""
        if self._terminal is None:
            return
        with self._uncaptured():
            _begin_line(self._terminal)
            self._terminal.write_line(text, **markup)
            self._terminal.flush()

    def pause(self) -> None:
        """Draw no more until the present wait is over: somebody else has the terminal."""
        with self._lock:
            table, self._table = self._table, None
        if table is not None:
            for event in table.close():
                self._lines.event(event)

    def close(self) -> None:
        """Stop drawing and forget the terminal."""
        self.pause()
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def _open(self) -> None:
        while self._late:
            self._lines.event(self._late.popleft())
        stream = self._terminal_stream()
        if stream is not None and self._terminal is not None:
            with self._uncaptured():
                _begin_line(self._terminal)
                self._terminal.flush()
            self._table = Table(stream)
            self._table.open()

    def _terminal_stream(self) -> TextIO | None:
        """Open the terminal under pytest's capture; None where there is none to draw on.

        A descriptor of our own needs no capture to be suspended while a frame is drawn.
        """
        if self._stream is not None:
            return self._stream
        if (
            not getattr(self._terminal, "isatty", False)
            # what tests print goes to the same terminal, and would tear the table
            or self._config.getoption("capture", default="no") == "no"
            or os.environ.get("TERM", "dumb") == "dumb"
        ):
            return None
        with self._uncaptured(), contextlib.suppress(OSError):
            if os.isatty(1):
                self._stream = os.fdopen(os.dup(1), "w", encoding="utf-8", errors="replace")
        return self._stream

    def _write(self, line: str, kind: Kind) -> None:
        self.say(f"carthage: {line}", **_MARKUP[kind])

    @contextlib.contextmanager
    def _uncaptured(self) -> Iterator[None]:
        with self._lock:
            if self._capture is None:
                yield
                return
            with self._capture.global_and_fixture_disabled():
                yield


def _begin_line(terminal: pytest.TerminalReporter) -> None:
    """Begin a line, also after the letter of a test, of which pytest itself takes no note."""
    terminal.ensure_newline()
    writer = getattr(terminal, "_tw", None)
    if getattr(writer, "width_of_current_line", 0):
        terminal.line("")
