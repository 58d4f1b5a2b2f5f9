"""Events as sentences."""

from __future__ import annotations

import pytest

from pytest_carthage.events import Event, Kind
from pytest_carthage.report.sentences import Lines, sentence
from tests.report.events import event


@pytest.mark.parametrize(
    ("happened", "words"),
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
def test_event_is_a_sentence(happened: Event, words: str) -> None:
    assert sentence(happened) == words


def test_lines_writes_each_event_with_its_kind() -> None:
    written: list[tuple[str, Kind]] = []
    lines = Lines(lambda line, kind: written.append((line, kind)))
    lines.event(event("start"))
    lines.event(event("failed", text="no disk"))
    assert written == [
        ("bakodi-shop: web: started", "start"),
        ("bakodi-shop: web: failed: no disk", "failed"),
    ]
