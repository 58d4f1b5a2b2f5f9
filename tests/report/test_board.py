"""The state of every subject, from the events so far."""

from __future__ import annotations

from pytest_carthage.report.board import Board
from tests.report.events import event


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


def test_environment_that_is_there_or_gone_has_no_parts_that_are_worked_on() -> None:
    board = Board()
    board.event(event("start", ""))
    board.event(event("note", "image debian", "looks for its packages"))
    board.event(event("done"))
    board.event(event("start", "fault link web.eth0 down"))
    board.event(event("done", "", "teardown"))
    assert [row.subject for row in board.shown(10)] == ["", "web"]
    assert board.busy_since_s is None
    board.rest()
    assert board.rows == {}


def test_board_is_busy_since_the_first_of_what_is_active_but_not_by_a_gate() -> None:
    board = Board()
    board.event(event("start", "gate web to db", at_s=90))
    times = [board.busy_since_s]
    for happened in (
        event("start", "db", at_s=101),
        event("start", at_s=100),
        event("done", at_s=102),
    ):
        board.event(happened)
        times.append(board.busy_since_s)
    assert times == [None, 101, 100, 101]
