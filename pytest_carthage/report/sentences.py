"""Events as sentences, one line each."""

from __future__ import annotations

from collections.abc import Callable

from pytest_carthage import clock
from pytest_carthage.events import Event, Kind
from pytest_carthage.report.times import seconds

__all__ = ["Lines", "sentence", "state"]

#: what became of a subject; a note has its own text
_WORDS: dict[Kind, str] = {
    "start": "starting",
    "done": "done",
    "cached": "cached",
    "failed": "failed",
    "note": "",
}
#: of what is there at once, by the first word of the subject
_AT_ONCE = {"fault": "in force", "gate": "open"}
#: notes on one subject that may come at once; of more, the last of each period is shown
_BURST, _PERIOD_S = 3, 1.0


def state(subject: str, kind: Kind) -> str:
    """What became of a subject, in a word or two; empty for a note."""
    if kind == "start":
        return _AT_ONCE.get(subject.partition(" ")[0], _WORDS["start"])
    return _WORDS[kind]


def sentence(event: Event) -> str:
    """Write an event as one line, as in ``bakodi-shop: web: done in 0.31 s``."""
    text = " ".join(event.text.split())
    words = state(event.subject, event.kind)
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
    """Writes one line per event; of many notes on one subject, one in a second.

    :param write: is given an event and its line.
    """

    def __init__(self, write: Callable[[Event, str], None]) -> None:
        self._write = write
        #: environment and subject, to when notes were shown
        self._shown_s: dict[tuple[str, str], list[float]] = {}
        #: notes that are not shown yet
        self._held: dict[tuple[str, str], Event] = {}

    def event(self, event: Event, /) -> None:
        """Write it, unless it is a note too many."""
        key = event.environment, event.subject
        if event.kind != "note":
            self._held.pop(key, None)
            if event.closes:
                self._shown_s.pop(key, None)
        else:
            shown = [at_s for at_s in self._shown_s.get(key, ()) if event.at_s - at_s < _PERIOD_S]
            if len(shown) >= _BURST or (key in self._held):
                self._held[key] = event
                return
            self._shown_s[key] = [*shown, event.at_s]
        self._write(event, sentence(event))

    def overdue(self, now_s: float | None = None) -> float | None:
        """Write notes that were held back for long enough.

        :param now_s: UNIX time; None: it is now.
        :returns: seconds until the next one; None: there is none.
        """
        now_s = clock.unix_s() if now_s is None else now_s
        for key, event in list(self._held.items()):
            if now_s - max(self._shown_s[key]) >= _PERIOD_S:
                del self._held[key]
                self._shown_s[key] = [now_s] * _BURST
                self._write(event, sentence(event))
        if not self._held:
            return None
        return max(0.0, min(max(self._shown_s[key]) for key in self._held) + _PERIOD_S - now_s)
