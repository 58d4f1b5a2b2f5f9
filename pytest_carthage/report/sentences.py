"""Events as sentences, one line each."""

from __future__ import annotations

from collections.abc import Callable

from pytest_carthage.events import Event, Kind
from pytest_carthage.report.times import seconds

__all__ = ["WORDS", "Lines", "sentence"]

#: what became of a subject; a note has its own text
WORDS: dict[Kind, str] = {
    "start": "started",
    "done": "done",
    "cached": "cached",
    "failed": "failed",
    "note": "",
}


def sentence(event: Event) -> str:
    """Write an event as one line, as in ``bakodi-shop: web: done in 0.31 s``."""
    text = " ".join(event.text.split())
    words = WORDS[event.kind]
    if event.duration_s is not None and words:
        words += f" {'after' if event.kind == 'failed' else 'in'} {seconds(event.duration_s)}"
    if not words:
        words = text
    elif event.kind == "failed" and text:
        words += f": {text}"
    elif text:
        words += f" ({text})"
    return ": ".join(part for part in (event.environment, event.subject, words) if part)


class Lines:
    """Writes one line per event; a failure's text keeps to its first line."""

    def __init__(self, write: Callable[[str, Kind], None]) -> None:
        self._write = write

    def event(self, event: Event, /) -> None:
        """Write it."""
        self._write(sentence(event), event.kind)
