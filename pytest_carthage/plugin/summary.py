"""The end of pytest's output: what was blocked, what could not be built, what gates there
were, what of Ansible's code was reached, what stays up.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest

from pytest_carthage.plugin import blocked, coverage, gates
from pytest_carthage.plugin.settings import settings_of

if TYPE_CHECKING:
    from pytest_carthage.state.listing import Listed

__all__ = ["run_exists", "write"]


def write(terminal: pytest.TerminalReporter) -> None:
    """Write our sections; nothing where there is nothing to say."""
    blocked.write(terminal)
    _write_lacks(terminal)
    gates.write(terminal)
    coverage.write(terminal)
    _write_kept(terminal)


def run_exists(name: str) -> bool:
    """Whether something of a run is there: layouts of any of its processes, live or kept."""
    from pytest_carthage.state import places

    try:
        return bool(places.run_folders(places.state_root() / "runs", name))
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


def _write_kept(terminal: pytest.TerminalReporter) -> None:
    config = terminal.config
    if hasattr(config, "workerinput"):
        return
    settings = settings_of(config)
    kept = _kept(config)
    has_failed = any(terminal.stats.get(outcome) for outcome in ("failed", "error"))
    if kept or (has_failed and settings.keep_on_fail):
        terminal.section("kept environments")
    if not kept and has_failed and settings.keep_on_fail:
        terminal.write_line("none: what failed used no layout that came to life")
    for environment in kept:
        _write_environment(terminal, environment)


def _kept(config: pytest.Config) -> list[Listed]:
    """What stays of a session: of its run, and what it has used."""
    settings = settings_of(config)
    # the run's folder is that of all workers, also of those that were killed
    if not settings.use and not run_exists(settings.run):
        return []
    from pytest_carthage.state.listing import list_environments

    used: list[str] = []
    if settings.use:
        from pytest_carthage.plugin.reuse import Reuse

        reuse = Reuse.of(config)
        used = [standing.name for standing in reuse.standings] if reuse is not None else []
    return [
        each
        for each in list_environments()
        if (each.run == settings.run and each.kept) or each.name in used
    ]


def _write_environment(terminal: pytest.TerminalReporter, environment: Listed) -> None:
    from pytest_carthage.report.kept import expiry

    machines = list(environment.machines)
    name = environment.name
    stays = expiry(kept=environment.kept, expires_at=environment.expires_at)
    terminal.write_line(f"{name}: {', '.join(machines) or 'no machines'}; {stays}")
    if machines:
        terminal.write_line(f"  get in:  pytest-carthage shell {name}/{machines[0]}")
    terminal.write_line(f"  remove:  pytest-carthage rm {name}")
