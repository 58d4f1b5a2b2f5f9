"""Events on a sheet, in a thread of its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from pytest_carthage import clock
from pytest_carthage.events import Event
from pytest_carthage.report import display as displays
from pytest_carthage.report.display import Display
from pytest_carthage.report.sheet import Sheet
from tests.report.events import event


class Stream:
    """What is written, and when."""

    def __init__(self) -> None:
        self.text = ""

    def write(self, text: str) -> None:
        self.text += text

    def flush(self) -> None:
        pass

    def wait_for(self, text: str, timeout_s: float = 30.0) -> None:
        deadline = time.monotonic() + timeout_s
        while text not in self.text:
            assert time.monotonic() < deadline, self.text
            time.sleep(0.01)


def shown(size: Callable[[], tuple[int, int]] | None = None) -> tuple[Stream, Display]:
    stream = Stream()
    sheet = Sheet(stream)
    return stream, Display(
        sheet,
        lambda event, line: sheet.add(line),
        size=size,
        stays=lambda event: event.is_milestone,
    )


def now(event: Event) -> Event:
    return Event(
        at_s=clock.unix_s(),
        environment=event.environment,
        subject=event.subject,
        kind=event.kind,
        text=event.text,
    )


def test_line_comes_by_itself_while_nobody_writes() -> None:
    stream, display = shown()
    display.event(event("start"))
    stream.wait_for("web: starting\n")
    display.close()
    display.event(event("done"))
    display.catch_up()
    assert "done" not in stream.text


def test_held_note_comes_by_itself() -> None:
    stream, display = shown()
    for number in range(9):
        display.event(now(event("note", text=f"package {number}")))
    stream.wait_for("package 2\n")
    assert "package 8" not in stream.text
    stream.wait_for("package 8\n")
    display.close()


def test_who_tells_of_something_does_not_wait_for_the_terminal() -> None:
    stream, display = shown()
    blocked = threading.Event()
    stream.write = lambda text: blocked.wait(30)  # type: ignore[assignment, method-assign]
    for _ in range(100):
        display.event(event("start"))
    assert not blocked.is_set()
    blocked.set()
    display.close()


def test_table_is_drawn_while_something_is_worked_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(displays, "DELAY_S", 0.0)
    stream, display = shown(lambda: (80, 24))
    display.event(now(event("start")))
    display.event(now(event("start", "stage imported")))
    stream.wait_for("0 of 2 done")
    display.event(now(event("done")))
    stream.wait_for("1 of 2 done")
    display.event(now(event("done", "stage imported")))
    stream.wait_for("stage imported: done\n")
    display.close()
    assert "web: done" not in stream.text
    drawn, _, after = stream.text.rpartition("of 2 done")
    assert after.count("\x1b[J") >= 2, "the frame's own end, and its removal"
    assert drawn


def test_what_is_quick_and_a_gate_that_stands_open_are_not_drawn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stream, display = shown(lambda: (80, 24))
    display.event(now(event("start")))
    display.event(now(event("done")))
    monkeypatch.setattr(displays, "DELAY_S", 0.0)
    display.event(now(event("start", "gate web to db:5432")))
    time.sleep(0.3)
    display.close()
    assert stream.text == ""


def test_pause_leaves_the_terminal_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(displays, "DELAY_S", 0.0)
    stream, display = shown(lambda: (80, 24))
    display.event(now(event("start")))
    stream.wait_for("0 of 1 done")
    display.pause()
    before = stream.text.count("of 1 done")
    time.sleep(0.3)
    assert stream.text.count("of 1 done") == before
    display.event(now(event("start", "db")))
    stream.wait_for("db: starting\n")
    display.resume()
    display.event(now(event("start", "gw")))
    stream.wait_for("of 2 done")
    display.close()
