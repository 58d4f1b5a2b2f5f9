"""The live table on a terminal."""

from __future__ import annotations

import io
import os
import pty
import threading
import time

from pytest_carthage.report.table import Table
from tests.report.events import event


class Terminal:
    """A pseudoterminal that collects what is drawn on it."""

    def __init__(self) -> None:
        self._ours, theirs = pty.openpty()
        self.stream = os.fdopen(theirs, "w", encoding="utf-8")
        self._parts: list[bytes] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        while True:
            try:
                self._parts.append(os.read(self._ours, 4096))
            except OSError:
                return

    def wait_for(self, text: str, timeout_s: float = 30.0) -> None:
        """Wait until something is drawn."""
        deadline = time.monotonic() + timeout_s
        while text not in self.text:
            assert time.monotonic() < deadline, self.text
            time.sleep(0.01)

    @property
    def text(self) -> str:
        """What was drawn so far."""
        return b"".join(self._parts).decode(errors="replace")

    def close(self) -> str:
        self.stream.close()
        self._reader.join(5)
        os.close(self._ours)
        return self.text


def test_table_draws_and_returns_what_stays() -> None:
    terminal = Terminal()
    table = Table(terminal.stream, delay_s=0, period_s=0.01)
    table.open()
    table.event(event("start", at_s=time.time()))
    table.event(event("start", "stage imported", at_s=time.time()))
    terminal.wait_for("0 of 2 done")
    table.event(event("done", duration_s=0.5))
    table.event(event("done", "stage imported", duration_s=0.5))
    table.event(event("failed", "db", "no disk"))
    table.event(event("done", "", duration_s=0.6))
    terminal.wait_for("3 of 4 done")
    kept = table.close()
    text = terminal.close()
    assert [closing.subject for closing in kept] == ["stage imported", "db", ""]
    assert "web" in text
    assert "stage imported" in text
    assert table.close() == []


def test_table_that_is_closed_soon_draws_nothing() -> None:
    stream = io.StringIO()
    table = Table(stream, delay_s=30)
    table.open()
    table.event(event("done", "", duration_s=0.1))
    assert [closing.kind for closing in table.close()] == ["done"]
    assert stream.getvalue() == ""
