"""The end of pytest's output: what stays up, what gates there were, what could not be built."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pytest

from pytest_carthage.plugin import options

if TYPE_CHECKING:
    from pytest_carthage.state.run import Listed

__all__ = ["remember_gates", "run_exists", "write"]

#: what no test's report could carry: gates that ended after the last one
_GATES = pytest.StashKey[list[dict[str, Any]]]()


def write(terminal: pytest.TerminalReporter) -> None:
    """Write our sections; nothing where there is nothing to tell."""
    _write_lacks(terminal)
    _write_gates(terminal)
    _write_kept(terminal)


def run_exists(name: str) -> bool:
    """Whether something of a run is there: layouts of any of its processes, live or kept."""
    from pytest_carthage.state import places

    try:
        return (places.state_root() / "runs" / name).exists()
    except PermissionError:  # a folder of somebody else has nothing of ours
        return False


def _write_lacks(terminal: pytest.TerminalReporter) -> None:
    reports = [*terminal.stats.get("skipped", ()), *terminal.stats.get("error", ())]
    lacks = Counter(
        report.carthage_lacks for report in reports if hasattr(report, "carthage_lacks")
    )
    if not lacks:
        return
    terminal.section("layouts that this host cannot build")
    for text, tests in lacks.items():
        terminal.write_line(text)
        terminal.write_line(f"  {tests} test{'' if tests == 1 else 's'} not run")
    terminal.write_line("pytest-carthage doctor tells more, and installs what it can with --fix")


def remember_gates(config: pytest.Config, gates: Sequence[dict[str, Any]]) -> None:
    """Keep what is to be told of gates, beside what the reports of tests tell."""
    config.stash.setdefault(_GATES, []).extend(gates)


def _write_gates(terminal: pytest.TerminalReporter) -> None:
    told: list[dict[str, Any]] = [
        gate
        for reports in terminal.stats.values()
        for report in reports
        for gate in getattr(report, "carthage_gates", ())
    ]
    rest: list[dict[str, Any]] = terminal.config.stash.get(_GATES, [])
    told += rest
    # of what was told of one gate, the last holds
    latest = {
        (gate["environment"], gate["number"]): gate
        for gate in sorted(told, key=lambda gate: gate["told_at"])
    }
    if not latest:
        return
    terminal.section("gates")
    alike: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for _, gate in sorted(latest.items()):
        alike.setdefault((gate["environment"], gate["machine"], gate["to"]), []).append(gate)
    for gates in alike.values():
        terminal.write_line(_gate_line(gates))


def _gate_line(gates: Sequence[Mapping[str, Any]]) -> str:
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


def _write_kept(terminal: pytest.TerminalReporter) -> None:
    config = terminal.config
    if hasattr(config, "workerinput"):
        return
    settings = options.settings_of(config)
    # the run's folder tells it for all workers, also for those that were killed
    if not run_exists(settings.run):
        return
    from pytest_carthage.state.run import list_environments

    kept = [one for one in list_environments() if one.run == settings.run and one.kept]
    if not kept:
        return
    terminal.section("kept environments")
    for environment in kept:
        _write_environment(terminal, environment)


def _write_environment(terminal: pytest.TerminalReporter, environment: Listed) -> None:
    from pytest_carthage.report.kept import expiry

    machines = list(environment.machines)
    name = environment.name
    stays = expiry(kept=environment.kept, expires_at=environment.expires_at)
    terminal.write_line(f"{name}: {', '.join(machines) or 'no machines'}; {stays}")
    if machines:
        terminal.write_line(f"  get in:  pytest-carthage shell {name}/{machines[0]}")
    terminal.write_line(f"  remove:  pytest-carthage rm {name}")
