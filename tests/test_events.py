"""What happens, as a stream of values."""

from __future__ import annotations

import time

import pytest

from pytest_carthage.events import Event, Fanout, Kind, Recorder, Silent, Work


def event(environment: str, kind: Kind = "start") -> Event:
    return Event(at_s=1.0, environment=environment, subject="web", kind=kind)


@pytest.mark.parametrize(
    ("kind", "closes"),
    [("start", False), ("note", False), ("done", True), ("cached", True), ("failed", True)],
)
def test_event_closes_its_subject_when_nothing_more_is_to_come(kind: Kind, closes: bool) -> None:
    assert event("shop", kind).closes is closes


def test_recorder_selects_the_events_of_one_environment() -> None:
    recorder = Recorder()
    for name in ("shop", "office", "shop"):
        recorder.event(event(name))
    assert recorder.of("shop") == [event("shop"), event("shop")]
    assert len(recorder.events) == 3


def test_fanout_passes_events_on_in_the_order_of_its_reporters() -> None:
    calls: list[str] = []

    class Noting:
        def __init__(self, name: str) -> None:
            self.name = name

        def event(self, event: Event, /) -> None:
            calls.append(self.name)

    Fanout([Noting("first"), Silent(), Noting("second")]).event(event("shop"))
    assert calls == ["first", "second"]


def test_work_is_a_source_of_events_with_its_time() -> None:
    recorder = Recorder()
    before_s = time.time()
    work = Work(recorder, "image debian", environment="shop")
    work.start("4 layers")
    time.sleep(0.02)
    work.note("2 of 4")
    work.done("cached 2")
    start, note, done = recorder.events
    assert [each.kind for each in recorder.events] == ["start", "note", "done"]
    assert [each.text for each in recorder.events] == ["4 layers", "2 of 4", "cached 2"]
    assert {(each.environment, each.subject) for each in recorder.events} == {
        ("shop", "image debian")
    }
    assert before_s <= start.at_s <= note.at_s <= done.at_s
    assert start.duration_s is None
    assert note.duration_s is None
    assert done.duration_s is not None
    assert 0.02 <= done.duration_s < 10


def test_work_begins_and_ends_with_a_block() -> None:
    recorder = Recorder()
    with Work(recorder, "push web") as work:
        work.note("2 of 4")
    assert [each.kind for each in recorder.events] == ["start", "note", "done"]


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (OSError("no space left\non device"), "no space left"),
        (KeyboardInterrupt(), "KeyboardInterrupt"),
    ],
)
def test_work_fails_with_its_block(error: BaseException, text: str) -> None:
    recorder = Recorder()
    with pytest.raises(type(error)), Work(recorder, "push web"):
        raise error
    assert (recorder.events[-1].kind, recorder.events[-1].text) == ("failed", text)
    assert recorder.events[-1].duration_s is not None


def test_work_that_starts_again_takes_its_time_anew() -> None:
    recorder = Recorder()
    work = Work(recorder, "machine web")
    time.sleep(0.5)
    work.start()
    work.failed("no disk")
    work.cached()
    _, failed, cached = recorder.events
    assert (failed.kind, failed.text, failed.environment) == ("failed", "no disk", "")
    assert failed.duration_s is not None
    assert failed.duration_s < 0.5
    assert cached.kind == "cached"
    assert cached.duration_s is not None
