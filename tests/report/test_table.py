"""A board as lines to draw."""

from __future__ import annotations

from dataclasses import replace

from pytest_carthage import clock
from pytest_carthage.report.board import Board
from pytest_carthage.report.table import frame
from tests.report.events import event


def drawn(board: Board, *, columns: int = 60, lines: int = 20) -> list[str]:
    rows = frame(board, columns=columns, lines=lines, color=False)
    assert all(len(row) <= columns for row in rows)
    return [" ".join(row.split()) for row in rows]


def test_table_has_what_is_worked_on_and_how_much_is_done() -> None:
    board = Board()
    board.event(event("start", "", "2 machines", at_s=clock.unix_s()))
    board.event(event("start", text="netns", at_s=clock.unix_s()))
    board.event(event("done", "db", "netns", duration_s=0.5))
    lines = drawn(board)
    assert [line.rpartition(" 0.")[0] for line in lines[:3]] == [
        "… bakodi-shop 2 machines",
        "… web netns",
        "✓ db netns",
    ]
    assert lines[3:] == ["1 of 3 done"]


def test_table_has_colors_where_they_are_wanted() -> None:
    board = Board()
    board.event(event("done", duration_s=0.5))
    assert "\x1b[32m" in "".join(frame(board, columns=60, lines=9, color=True))
    assert "\x1b" not in "".join(frame(board, columns=60, lines=9, color=False))


def test_parts_stand_below_their_environment_and_faults_below_their_test() -> None:
    board = Board()
    for environment in ("run-shop-gw0", "run-shop-gw1"):
        board.event(replace(event("start", ""), environment=environment))
    for environment in ("run-shop-gw0", "run-shop-gw1"):
        board.event(replace(event("start"), environment=environment))
    fault = event("start", "fault link web.eth0 down")
    board.event(replace(fault, environment="run-shop-gw0", test="t.py::test_outage"))
    names = [line.split(" starting")[0].split(" in force")[0] for line in drawn(board)]
    assert names == [
        "… run-shop-gw0",
        "… web",
        "… run-shop-gw1",
        "… web",
        "t.py::test_outage",
        "… fault link web.eth0 down",
        "0 of 5 done",
    ]


def test_table_is_no_larger_than_the_terminal() -> None:
    board = Board()
    for number in range(50):
        board.event(event("start", f"machine-{number}", "x" * 200))
    lines = drawn(board, columns=40, lines=10)
    assert len(lines) == 10
    assert lines[-1] == "0 of 50 done"
