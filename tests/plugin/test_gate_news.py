"""What of gates is passed on, and how the end of pytest's output shows it."""

from __future__ import annotations

import re
from typing import Any

import pytest

from pytest_carthage.plugin import gates
from pytest_carthage.plugin.gates import GateNews

AT_S = 1_700_000_000.0


def totals(number: int = 0, **values: Any) -> dict[str, Any]:
    return {
        "environment": "run-shop",
        "number": number,
        "machine": "web",
        "to": "db.example:5432",
        "opened_at": AT_S,
        "closed_at": None,
        "closed_by": None,
        "connections": 0,
        "failed": 0,
        "sent_bytes": 0,
        "received_bytes": 0,
        **values,
    }


def record(number: int = 0, at_s: float = AT_S, **values: Any) -> dict[str, Any]:
    return {**totals(number, **values), "at_s": at_s}


class Config:
    def __init__(self, **attributes: Any) -> None:
        self.stash = pytest.Stash()
        vars(self).update(attributes)


class Terminal:
    """What is written to it."""

    def __init__(self, *reports: Any) -> None:
        self.config = Config()
        self.stats = {"passed": list(reports), "failed": []}
        self.lines: list[str] = []

    def section(self, title: str) -> None:
        self.lines.append(f"== {title}")

    def write_line(self, line: str) -> None:
        self.lines.append(re.sub(r"\d\d:\d\d:\d\d", "TIME", line))


class Report:
    def __init__(self, *records: dict[str, Any]) -> None:
        self.carthage_gates = records


def written(*reports: Any) -> list[str]:
    terminal: Any = Terminal(*reports)
    gates.write(terminal)
    lines: list[str] = terminal.lines
    return lines


def news(config: Any, now: list[dict[str, Any]]) -> GateNews:
    return GateNews(config, lambda: [dict(each) for each in now])


def test_news_are_only_what_has_changed() -> None:
    now = [totals(0), totals(1)]
    source = news(Config(), now)
    assert [each["number"] for each in source.take()] == [0, 1]
    assert source.take() == []
    now[1]["connections"] = 2
    (changed,) = source.take()
    assert (changed["number"], changed["connections"]) == (1, 2)
    assert changed["at_s"] > AT_S


def test_news_go_with_the_report_of_a_test() -> None:
    source = news(Config(), [totals()])
    report = Report()
    for _ in range(2):
        hook = source.pytest_runtest_makereport()
        next(hook)
        with pytest.raises(StopIteration) as returned:
            hook.send(report)
        assert returned.value.value is report
        assert [each["number"] for each in report.carthage_gates] == [0]


def test_late_news_of_a_worker_go_to_its_controller() -> None:
    config: Any = Config(workeroutput={})
    news(config, [totals()]).pytest_sessionfinish()
    assert [each["number"] for each in config.workeroutput["carthage_gates"]] == [0]


def test_late_news_are_written_at_the_end() -> None:
    terminal: Any = Terminal(Report(record(0, connections=1)))
    news(terminal.config, [totals(0, connections=3)]).pytest_sessionfinish()
    gates.write(terminal)
    assert terminal.lines == [
        "== gates",
        "run-shop: web to db.example:5432, TIME and still open: 3 connections, 0 bytes out, "
        "0 bytes in",
    ]


def test_nothing_is_written_without_gates() -> None:
    assert written(Report(), object()) == []


def test_last_record_of_a_gate_holds() -> None:
    old = record(0, at_s=AT_S + 1, connections=1, sent_bytes=10)
    new = record(
        0,
        at_s=AT_S + 2,
        connections=1,
        sent_bytes=12,
        received_bytes=7,
        closed_at=AT_S + 2,
        closed_by="caller",
    )
    assert written(Report(new), Report(old))[1:] == [
        "run-shop: web to db.example:5432, TIME to TIME: 1 connection, 12 bytes out, 7 bytes in"
    ]


@pytest.mark.parametrize(
    ("by", "text"), [("time", " (its time was over)"), ("end", " (the layout ended)")]
)
def test_end_that_nobody_asked_for_is_explained(by: str, text: str) -> None:
    (line,) = written(Report(record(closed_at=AT_S, closed_by=by)))[1:]
    assert f"TIME to TIME{text}: 0 connections" in line


def test_gates_to_one_destination_are_one_line() -> None:
    lines = written(
        Report(
            record(0, connections=1, sent_bytes=5, closed_at=AT_S, closed_by="caller"),
            record(1, connections=2, failed=1, received_bytes=6, closed_at=AT_S),
            record(2, machine="db", connections=9),
            record(0, environment="run-office"),
        )
    )
    assert lines == [
        "== gates",
        "run-office: web to db.example:5432, TIME and still open: 0 connections, 0 bytes out, "
        "0 bytes in",
        "run-shop: web to db.example:5432, 2 times, TIME to TIME: 3 connections, 5 bytes out, "
        "6 bytes in, 1 failed",
        "run-shop: db to db.example:5432, TIME and still open: 9 connections, 0 bytes out, "
        "0 bytes in",
    ]
