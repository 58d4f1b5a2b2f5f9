"""Which gates were open in a session, from the workers to the end of pytest's output.

A gate travels as a record: what ``GateRecord.totals`` gives, and in ``at_s`` when that was so.
The reports of tests carry the news, so that those of pytest-xdist's workers arrive.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import pytest

from pytest_carthage import clock

__all__ = ["GateNews", "remember", "write"]

Record = Mapping[str, Any]

#: what no test's report could carry: gates that ended after the last one
_LATE = pytest.StashKey[list[Record]]()
#: attribute of a report, and entry of a worker's output
KEY = "carthage_gates"


class GateNews:
    """What became of gates since it was asked before.

    :param totals: gives what is so now of each gate that there was.
    """

    def __init__(self, config: pytest.Config, totals: Callable[[], Iterable[Record]]) -> None:
        self._config = config
        self._totals = totals
        self._sent: dict[tuple[str, int], Record] = {}

    def take(self) -> list[Record]:
        """Records of the gates that are not as they were when this was called before."""
        news: list[Record] = []
        for totals in self._totals():
            key = totals["environment"], totals["number"]
            if self._sent.get(key) != totals:
                self._sent[key] = totals
                news.append({**totals, "at_s": clock.unix_s()})
        return news

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self) -> Any:
        """Give the news to a test's report."""
        report = yield
        if news := self.take():
            vars(report)[KEY] = news
        return report

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self) -> None:
        """Pass on what became of gates after the last test's report."""
        if news := self.take():
            output: dict[str, Any] | None = getattr(self._config, "workeroutput", None)
            if output is not None:
                output[KEY] = news
            else:
                remember(self._config, news)


def remember(config: pytest.Config, records: Sequence[Record]) -> None:
    """Keep records for the end of the session, beside those that the reports of tests carry."""
    config.stash.setdefault(_LATE, []).extend(records)


def write(terminal: pytest.TerminalReporter) -> None:
    """Write a section with all gates; none where there were none."""
    records: list[Record] = [
        record
        for reports in terminal.stats.values()
        for report in reports
        for record in getattr(report, KEY, ())
    ]
    late: list[Record] = terminal.config.stash.get(_LATE, [])
    lines = _lines([*records, *late])
    if lines:
        terminal.section("gates")
        for line in lines:
            terminal.write_line(line)


def _lines(records: Iterable[Record]) -> list[str]:
    """One line for all gates from one machine to one destination."""
    # of several records of one gate, the last holds
    latest = {
        (record["environment"], record["number"]): record
        for record in sorted(records, key=lambda record: record["at_s"])
    }
    alike: dict[tuple[str, str, str], list[Record]] = {}
    for _, record in sorted(latest.items()):
        ends = record["environment"], record["machine"], record["to"]
        alike.setdefault(ends, []).append(record)
    return [_line(gates) for gates in alike.values()]


def _line(gates: Sequence[Record]) -> str:
    """As in ``run-shop: web to db.example:5432, 14:03:01 to 14:03:09: 2 connections, ...``.

    :param gates: all that led from one machine to one destination, in their order.
    """
    first, last = gates[0], gates[-1]
    times = f"{len(gates)} times, " if len(gates) > 1 else ""
    until = "and still open" if last["closed_at"] is None else f"to {_clock(last['closed_at'])}"
    by = {"time": " (its time was over)", "end": " (the layout ended)"}.get(last["closed_by"], "")
    connections, sent, received, failed = (
        sum(gate[key] for gate in gates)
        for key in ("connections", "sent_bytes", "received_bytes", "failed")
    )
    text = (
        f"{first['environment']}: {first['machine']} to {first['to']}, {times}"
        f"{_clock(first['opened_at'])} {until}{by}: {connections} "
        f"connection{'' if connections == 1 else 's'}, {sent} bytes out, {received} bytes in"
    )
    return text + (f", {failed} failed" if failed else "")


def _clock(at_s: float) -> str:
    return datetime.fromtimestamp(at_s).strftime("%H:%M:%S")
