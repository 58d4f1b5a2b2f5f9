"""What is kept of what goes on without end."""

from __future__ import annotations

from typing import cast

from hypothesis import given
from hypothesis import strategies as st

from pytest_carthage.events import Event, Recorder
from pytest_carthage.handles.kept import Kept, shortened
from pytest_carthage.handles.result import Result
from pytest_carthage.portal import Portal
from pytest_carthage.work.files.subject import Subject


@given(count=st.integers(0, 40), head=st.integers(0, 9), tail=st.integers(0, 9))
def test_kept_has_the_first_and_the_last_and_counts_the_rest(
    count: int, head: int, tail: int
) -> None:
    kept = Kept[int](head=head, tail=tail)
    for number in range(count):
        kept.append(number)
    everything = list(range(count))
    rest = everything[head:]
    expected = everything[:head] + (rest[len(rest) - tail :] if len(rest) > tail else rest)
    assert list(kept) == expected
    assert len(kept) == len(expected)
    assert kept.left_out == count - len(expected)
    assert kept[:] == expected
    if expected:
        assert kept[-1] == expected[-1]


@given(sizes=st.lists(st.integers(0, 20), max_size=40), most=st.integers(0, 60))
def test_kept_of_so_many_bytes_has_the_newest(sizes: list[int], most: int) -> None:
    kept = Kept[int](head=0, tail=100, most_bytes=most, weigh=lambda size: size)
    for size in sizes:
        kept.append(size)
    assert sum(kept) <= most or len(kept) == 1
    assert list(kept) == sizes[len(sizes) - len(kept) :]
    assert kept.left_out == len(sizes) - len(kept)
    if kept.left_out:
        assert kept.last_left_out == sizes[kept.left_out - 1]
        assert sum(sizes[kept.left_out - 1 :]) > most, "no more than had to"


def test_kept_of_the_newest_alone_says_so() -> None:
    kept = Kept[int](head=0, tail=2)
    for number in range(5):
        kept.append(number)
    assert kept.remark("commands") == "[the oldest 3 commands are left out]\n"


def test_commands_of_a_session_take_no_more_than_so_much() -> None:
    commands = Subject("web", who="machine 'web'", portal=cast("Portal", None)).commands
    for number in range(900):
        commands.append(result(f"{number} " + "ä" * 30_000).record)
    assert sum(map(Result.size, commands)) <= 8 << 20
    assert commands[-1].stdout.startswith("899 ")
    assert commands.left_out == 900 - len(commands) > 600


def test_kept_says_what_it_left_out() -> None:
    kept = Kept[int](head=2, tail=1)
    assert kept.remark("events") == ""
    for number in range(10):
        kept.append(number)
    assert kept.remark("events") == "[7 events are left out after the first 2]\n"


@given(text=st.text(max_size=60), head=st.integers(0, 20), tail=st.integers(0, 20))
def test_shortened_text_is_whole_or_has_its_beginning_and_its_end(
    text: str, head: int, tail: int
) -> None:
    short = shortened(text, head=head, tail=tail)
    if len(text) <= head + tail:
        assert short == text
    else:
        assert short.startswith(text[:head])
        assert short.endswith(text[len(text) - tail :])
        assert f"[... {len(text) - head - tail} characters are left out" in short


def result(stdout: str, stderr: str = "") -> Result:
    return Result(
        machine="web",
        command="x",
        status=0,
        stdout=stdout,
        stderr=stderr,
        started_at=0.0,
        duration_s=0.0,
    )


def test_record_of_a_long_result_is_short_and_the_result_itself_is_whole() -> None:
    whole = result("a" * 100_000, "b" * 50_000)
    record = whole.record
    assert len(whole.stdout) == 100_000
    assert record.stdout.startswith("a" * 8192 + "\n[... 67232 characters are left out")
    assert record.stdout.endswith("]\n" + "a" * 24576)
    assert record.stderr.endswith("]\n" + "b" * 24576)
    assert (record.command, record.status) == ("x", 0)


def test_record_of_an_ordinary_result_is_the_result() -> None:
    plain = result("a" * 32_768)
    assert plain.record is plain
    loud = result("ok", "b" * 50_000)
    assert loud.record.stdout == "ok"


def test_recorder_of_very_many_events_keeps_the_first_and_the_last() -> None:
    recorder = Recorder()
    for number in range(150_000):
        recorder.event(Event(at_s=number, environment="e", subject="s", kind="note"))
    assert len(recorder.events) == 100_000
    assert recorder.events.left_out == 50_000
    assert recorder.events[0].at_s == 0
    assert recorder.events[-1].at_s == 149_999
