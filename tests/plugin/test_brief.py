"""Progress of short work that comes again and again."""

from __future__ import annotations

import threading

from pytest_carthage.events import Event, Kind
from pytest_carthage.plugin.brief import Brief
from pytest_carthage.plugin.tally import Tally


class Shown:
    """What a person sees."""

    def __init__(self) -> None:
        self.words: list[str] = []
        self.is_any = threading.Event()

    def event(self, event: Event, /) -> None:
        self.words.append(f"{event.subject} {event.kind}")
        self.is_any.set()


def _event(subject: str, kind: Kind) -> Event:
    return Event(at_s=0, environment="run-pair", subject=subject, kind=kind)


def test_short_work_is_not_shown() -> None:
    shown = Shown()
    brief = Brief(shown, patience_s=60)
    for kind in ("start", "note", "done", "start", "done"):
        brief.event(_event("one", kind))
    assert shown.words == []


def test_work_that_fails_is_shown_from_its_beginning_on() -> None:
    shown = Shown()
    brief = Brief(shown, patience_s=60)
    for kind in ("start", "done"):
        brief.event(_event("before", kind))
    brief.event(_event("", "start"))
    brief.event(_event("one", "start"))
    brief.event(_event("one", "failed"))
    brief.event(_event("", "failed"))
    assert shown.words == [" start", "one start", "one failed", " failed"]
    brief.event(_event("after", "start"))
    brief.event(_event("after", "done"))
    assert len(shown.words) == 4


def test_long_work_is_shown_while_it_goes_on() -> None:
    shown = Shown()
    brief = Brief(shown, patience_s=0.01)
    brief.event(_event("one", "start"))
    assert shown.is_any.wait(10)
    brief.event(_event("one", "note"))
    brief.event(_event("one", "done"))
    assert shown.words == ["one start", "one note", "one done"]


def test_note_outside_of_any_work_is_shown_at_once() -> None:
    shown = Shown()
    Brief(shown, patience_s=60).event(_event("web", "note"))
    assert shown.words == ["web note"]


def test_tally_tells_of_layouts_with_several_environments() -> None:
    tally = Tally()
    for layout, scope in [("Shop", "function"), ("Shop", "function"), ("Office", "class")]:
        with tally.building(layout, scope):
            pass
        with tally.ending(layout, scope):
            pass
    (line,) = tally.lines
    assert line == (
        "layout 'Shop': 2 environments, one for each function: built in 0.00 s, gone in 0.00 s "
        "(median); all in all 0.0 s"
    )
