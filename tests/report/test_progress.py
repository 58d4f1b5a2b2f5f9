"""Events as sentences, and the board behind the live table."""

from __future__ import annotations

import io
import os
import pty
import threading
import time

import pytest

from pytest_carthage.report.events import Event, Fanout, Kind, Recorder, Silent
from pytest_carthage.report.progress import Board, Lines, Table, seconds, sentence


def event(
    kind: Kind,
    subject: str = "web",
    text: str = "",
    *,
    at_s: float = 100.0,
    duration_s: float | None = None,
) -> Event:
    return Event(
        at_s=at_s,
        environment="bakodi-shop",
        subject=subject,
        kind=kind,
        text=text,
        duration_s=duration_s,
    )


@pytest.mark.parametrize(
    ("told", "words"),
    [
        (event("start", text="podman"), "bakodi-shop: web: started (podman)"),
        (event("done", duration_s=0.314), "bakodi-shop: web: done in 0.31 s"),
        (
            event("done", "", "3 machines", duration_s=75.2),
            "bakodi-shop: done in 1 min 15 s (3 machines)",
        ),
        (event("cached", "image debian"), "bakodi-shop: image debian: cached"),
        (event("note", text="two\n lines"), "bakodi-shop: web: two lines"),
        (
            event("failed", text="no disk", duration_s=12.0),
            "bakodi-shop: web: failed after 12 s: no disk",
        ),
        (event("failed"), "bakodi-shop: web: failed"),
    ],
)
def test_event_is_a_sentence(told: Event, words: str) -> None:
    assert sentence(told) == words


@pytest.mark.parametrize(
    ("duration_s", "text"), [(0.0, "0.00 s"), (9.99, "9.99 s"), (59.4, "59 s"), (125, "2 min 05 s")]
)
def test_duration_is_written_as_people_read_it(duration_s: float, text: str) -> None:
    assert seconds(duration_s) == text


def test_recorder_keeps_the_order_and_selects_an_environment() -> None:
    recorder = Recorder()
    Fanout([Silent(), recorder]).event(event("start"))
    recorder.event(Event(at_s=1, environment="other", subject="", kind="done"))
    assert [one.environment for one in recorder.events] == ["bakodi-shop", "other"]
    assert [one.environment for one in recorder.of("other")] == ["other"]


def test_lines_writes_each_event_with_its_kind() -> None:
    written: list[tuple[str, Kind]] = []
    lines = Lines(lambda line, kind: written.append((line, kind)))
    lines.event(event("start"))
    lines.event(event("failed", text="no disk"))
    assert written == [
        ("bakodi-shop: web: started", "start"),
        ("bakodi-shop: web: failed: no disk", "failed"),
    ]


def test_board_follows_a_subject_to_its_end() -> None:
    board = Board()
    board.event(event("start", at_s=100))
    board.event(event("note", text="pulling", at_s=101))
    (row,) = board.shown(10)
    assert (row.kind, row.text, row.began_s) == ("note", "pulling", 100)
    board.event(event("done", at_s=103))
    assert (row.kind, row.duration_s) == ("done", 3)
    board.event(event("note", text="afterthought"))
    assert (row.kind, row.active) == ("done", False)


def test_board_begins_anew_with_a_second_start() -> None:
    board = Board()
    for at_s, kind in ((100, "start"), (101, "done"), (110, "start")):
        board.event(event(kind, at_s=at_s))  # type: ignore[arg-type]
    (row,) = board.shown(10)
    assert row.active
    assert row.began_s == 110


def test_board_shows_first_what_is_active_or_failed() -> None:
    board = Board()
    for number in range(20):
        board.event(event("start", f"m{number}"))
    for number in range(20):
        if number != 3:
            board.event(event("failed" if number == 5 else "done", f"m{number}"))
    assert [row.subject for row in board.shown(4)] == ["m3", "m5", "m18", "m19"]
    assert [row.subject for row in board.shown(2)] == ["m3", "m5"]
    assert len(list(board.shown(50))) == 20
    assert board.count("done") == 18


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

    def close(self) -> str:
        self.stream.close()
        self._reader.join(5)
        os.close(self._ours)
        return b"".join(self._parts).decode()


def test_table_draws_and_returns_what_stays() -> None:
    terminal = Terminal()
    table = Table(terminal.stream, delay_s=0, period_s=0.01)
    table.open()
    table.event(event("start", at_s=time.time()))
    table.event(event("start", "stage imported", at_s=time.time()))
    time.sleep(0.5)  # some frames
    table.event(event("done", duration_s=0.5))
    table.event(event("done", "stage imported", duration_s=0.5))
    table.event(event("failed", "db", "no disk"))
    table.event(event("done", "", duration_s=0.6))
    time.sleep(0.1)
    kept = table.close()
    text = terminal.close()
    assert [one.subject for one in kept] == ["stage imported", "db", ""]
    assert "web" in text
    assert "stage imported" in text
    assert "0 of 2 done" in text
    assert table.close() == []


def test_table_that_is_closed_soon_draws_nothing() -> None:
    stream = io.StringIO()
    table = Table(stream, delay_s=30)
    table.open()
    table.event(event("done", "", duration_s=0.1))
    assert [one.kind for one in table.close()] == ["done"]
    assert stream.getvalue() == ""
