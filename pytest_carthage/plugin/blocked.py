"""Tests that could not be tried: what they are built on had failed before.

Such a test is an error of its own kind, ``blocked``. pytest's machinery around a test takes it for
one that was skipped: neither a debugger nor ``xfail`` nor a rerun has any business with it. It
becomes an error where its report is given to everybody, and travels as one from the workers of
pytest-xdist.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Mapping
from typing import Any

import pytest

__all__ = ["Blocked", "BlockedTests", "mark", "register", "write"]

_NAME = "carthage-blocked"
#: attribute of a blocked test's report: subject, test and line of its cause
_BLOCKED = "carthage_blocked"
#: the same of the report that shows the cause
_CAUSE = "carthage_cause"

Record = Mapping[str, str]


class Blocked(pytest.skip.Exception):  # type: ignore[name-defined, misc]  # pytest makes it
    """A test cannot be tried, since what it is built on had failed before.

    :param record: ``subject`` as in ``stage 'imported'``, the ``test`` that met its failure, and
        the ``line`` that says why it failed.
    """

    def __init__(self, record: Record) -> None:
        super().__init__(
            f"blocked by {record['subject']}, which failed in {record['test']}: {record['line']}",
            _use_item_location=True,
        )
        self.record = record


class BlockedTests:
    """Makes errors of the reports of blocked tests, and tells them from others."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        #: what is the same of a cause in all workers, to the test that showed it
        self._shown: dict[tuple[str, str], str] = {}
        #: the same, with each worker that met it
        self._met: set[tuple[tuple[str, str], str]] = set()

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_logreport(
        self, report: pytest.TestReport
    ) -> Generator[None, object, object]:
        """Have everybody who counts, writes or remembers results take it for an error.

        ``--maxfail`` counts causes, not what they block.
        """
        record: Record | None = getattr(report, _BLOCKED, None)
        if record is not None and report.skipped:
            report.outcome = "failed"
            report.longrepr = _message(report.longrepr)
        cause: Record | None = getattr(report, _CAUSE, None)
        if cause is not None and report.failed and (test := self._told_by_another(report, cause)):
            vars(report)[_BLOCKED] = {**cause, "test": test}
        if report.failed and (record := getattr(report, _BLOCKED, None)) is not None:
            test = self._shown.get(_everywhere(record), record["test"])
            vars(report)[_BLOCKED] = {**record, "test": test}
            self._uncount()
        return (yield)

    @pytest.hookimpl(tryfirst=True)
    def pytest_report_teststatus(
        self, report: pytest.CollectReport | pytest.TestReport
    ) -> tuple[str, str, tuple[str, Mapping[str, bool]]] | None:
        """Name the kind."""
        if report.failed and hasattr(report, _BLOCKED):
            return "blocked", "B", ("BLOCKED", {"red": True})
        return None

    def _told_by_another(self, report: pytest.TestReport, cause: Record) -> str | None:
        """The test of another worker that met the same before; that has shown it in full."""
        everywhere = _everywhere(cause)
        test = self._shown.setdefault(everywhere, report.nodeid)
        here = everywhere, getattr(report, "worker_id", "")
        is_first_here, is_first = here not in self._met, test == report.nodeid
        self._met.add(here)
        return test if is_first_here and not is_first else None

    def _uncount(self) -> None:
        """Take away one of the failures that ``--maxfail`` compares, for one that is added now.

        The only failure stays: a session with a blocked test has failed.
        """
        plugins = self._config.pluginmanager
        for name, number in (("session", "testsfailed"), ("dsession", "countfailures")):
            counting = plugins.getplugin(name)
            if getattr(counting, number, 0) > 0:
                setattr(counting, number, getattr(counting, number) - 1)


def register(config: pytest.Config) -> None:
    """Have blocked tests told from others in this session; a second call does nothing."""
    if not config.pluginmanager.hasplugin(_NAME):
        config.pluginmanager.register(BlockedTests(config), _NAME)


def mark(report: pytest.TestReport, error: BaseException, cause: Record | None) -> None:
    """Have a report say what it is blocked by, or what it blocks.

    :param error: what ended the test.
    :param cause: what it blocks, where it is a cause.
    """
    if isinstance(error, Blocked):
        vars(report)[_BLOCKED] = dict(error.record)
    elif cause is not None:
        vars(report)[_CAUSE] = dict(cause)


def write(terminal: pytest.TerminalReporter) -> None:
    """Write a section that has each cause with the number of tests that it blocks.

    ``-v``, ``-ra`` and ``-rA`` name them.
    """
    causes: dict[tuple[str, str], tuple[Record, list[str]]] = {}
    for report in terminal.stats.get("blocked", ()):
        record: Record = getattr(report, _BLOCKED)
        _, tests = causes.setdefault((record["subject"], record["test"]), (record, []))
        tests.append(report.nodeid)
    if not causes:
        return
    terminal.section("blocked tests")
    option: Any = terminal.config.option
    named = terminal.config.get_verbosity() > 0 or set("aA") & set(option.reportchars)
    for record, tests in causes.values():
        number = f"{len(tests)} test{'' if len(tests) == 1 else 's'}"
        terminal.write_line(f"blocked by {record['subject']}: {number}")
        terminal.write_line(f"  it failed in {record['test']}: {record['line']}")
        for test in tests if named else ():
            terminal.write_line(f"  BLOCKED {test}")


def _message(skipped: Any) -> str:
    """What pytest was told when it took the test for a skipped one."""
    text = skipped[2] if isinstance(skipped, tuple) else str(skipped)
    return str(text).removeprefix("Skipped: ")


def _everywhere(cause: Record) -> tuple[str, str]:
    """A cause without the worker whose environment it was."""
    return cause["subject"], re.sub(r"-gw\d+\b", "", cause["line"])
