"""Events as sentences."""

from __future__ import annotations

import pytest

from pytest_carthage.events import Event
from pytest_carthage.report.sentences import Lines, sentence
from tests.report.events import event


@pytest.mark.parametrize(
    ("happened", "words"),
    [
        (event("start", text="podman"), "bakodi-shop: web: starting (podman)"),
        (
            event("start", "fault link web.eth0 down"),
            "bakodi-shop: fault link web.eth0 down: in force",
        ),
        (
            event("start", "gate web to db:5432", "10.0.0.1:5432 for 60 s"),
            "bakodi-shop: gate web to db:5432: open (10.0.0.1:5432 for 60 s)",
        ),
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
def test_event_is_a_sentence(happened: Event, words: str) -> None:
    assert sentence(happened) == words


class Written:
    """Lines, and what they have written."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.lines = Lines(
            lambda event, line: self.texts.append(line.removeprefix("bakodi-shop: "))
        )


def test_lines_writes_each_event() -> None:
    written = Written()
    written.lines.event(event("start"))
    written.lines.event(event("failed", text="no disk"))
    assert written.texts == ["web: starting", "web: failed: no disk"]


def test_notes_of_a_download_are_one_in_a_second() -> None:
    written = Written()
    for number in range(300):  # in 30 seconds
        at_s = 100 + number / 10
        written.lines.overdue(at_s)
        written.lines.event(event("note", "image web", f"package {number} of 300", at_s=at_s))
    assert 28 <= len(written.texts) <= 34
    written.lines.overdue(200)
    assert written.texts[-1] == "image web: package 299 of 300"
    written.lines.event(event("done", "image web"))
    written.lines.overdue(300)
    assert written.texts[-1] == "image web: done"


def test_few_notes_are_shown_at_once_and_a_held_one_in_its_time() -> None:
    written = Written()
    for text in ("one", "two", "three", "four", "five"):
        written.lines.event(event("note", text=text))
    assert written.texts == ["web: one", "web: two", "web: three"]
    assert written.lines.overdue(100.2) == pytest.approx(0.8)
    assert written.lines.overdue(101.0) is None
    assert written.texts[3:] == ["web: five"]


def test_notes_of_another_subject_are_not_held_back() -> None:
    written = Written()
    for subject in ("web", "db"):
        for text in ("one", "two", "three"):
            written.lines.event(event("note", subject, text))
    assert len(written.texts) == 6


def test_what_has_ended_has_no_more_notes() -> None:
    written = Written()
    for text in ("one", "two", "three", "four"):
        written.lines.event(event("note", text=text))
    written.lines.event(event("done"))
    assert written.lines.overdue(200) is None
    assert written.texts[-1] == "web: done"
