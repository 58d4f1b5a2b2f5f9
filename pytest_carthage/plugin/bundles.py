"""A bundle for each failed test, from pytest's reports."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from pathlib import Path

import pytest

from pytest_carthage.channels.log import size_of_logs
from pytest_carthage.errors import HostError
from pytest_carthage.plugin import mixups, tracebacks
from pytest_carthage.plugin.again import again
from pytest_carthage.plugin.causes import Causes, reason
from pytest_carthage.plugin.environments import Environments, Live
from pytest_carthage.plugin.rewording import reword
from pytest_carthage.plugin.settings import settings_of
from pytest_carthage.plugin.workplace import Workplace
from pytest_carthage.report.bundle import Failure, Shelf, prune
from pytest_carthage.state import places

__all__ = ["Bundles", "shelf_of"]

#: how long collecting what there is to see of one test may take
_COLLECT_S = 30.0
#: how many former sessions have their bundles in pytest's cache
_KEPT = 3


def shelf_of(config: pytest.Config) -> Shelf:
    """Where the bundles of a session go; those of old sessions make room."""
    settings = settings_of(config)
    if settings.artifacts is not None:
        return Shelf(settings.artifacts)
    cache = getattr(config, "cache", None)
    base: Path = cache.mkdir("carthage") if cache is not None else places.own_folder("artifacts")
    prune(base, keep=_KEPT)
    return Shelf(base / settings.run)


class Bundles:
    """Looks at the layouts of a test that failed, and at what its report says."""

    def __init__(
        self, workplace: Workplace, causes: Causes, environments: Environments, shelf: Shelf
    ) -> None:
        self._workplace = workplace
        self._causes = causes
        self._environments = environments
        self._shelf = shelf
        self._full_trace: bool = workplace.config.getoption("fulltrace", default=False)
        #: the test that is run to when its setup began, UNIX time
        self._began: dict[str, float] = {}
        #: environments that were there then to the sizes of their logs
        self._logs: dict[str, Mapping[str, int]] = {}

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self) -> None:
        """Note where the logs of the test begin."""
        environments = [live.environment for live in self._environments.live]
        self._logs = {each.name: size_of_logs(each.logs) for each in environments}

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Note failures of the layouts that a test used, and collect what there is to see."""
        if call.when == "setup":
            self._began = {item.nodeid: call.start}
        if call.excinfo is not None:
            mixups.explain(call.excinfo.value)
        if call.excinfo is not None and not self._full_trace:
            call.excinfo = tracebacks.shorten(call.excinfo)
        report = yield
        if call.excinfo is not None and isinstance(call.excinfo.value.__context__, HostError):
            vars(report)["carthage_lacks"] = str(call.excinfo.value)
        if report.failed:
            used = self._environments.used_by(item)
            for live in used:
                live.failed.append(item.nodeid)
            if report.when != "teardown":
                self._collect(item, call, report, used)
        return report

    def _collect(
        self,
        item: pytest.Item,
        call: pytest.CallInfo[None],
        report: pytest.TestReport,
        used: list[Live],
    ) -> None:
        cause = self._causes.of(call.excinfo.value) if call.excinfo is not None else None
        former = [cause.former] if cause is not None and cause.former is not None else []
        names = [*former, *(live.environment.name for live in used)]
        if not names:
            return
        failure = Failure(
            test=item.nodeid,
            phase=report.when,
            began_s=self._began.get(item.nodeid, call.start),
            ended_s=call.stop,
            error=report.longreprtext,
            run=self._workplace.settings.run,
            logs=self._logs,
            again=again(item.config, item.nodeid),
            stays=[name for name in names if self._environments.stays(name)],
            kept=self._kept(item, names),
        )
        try:
            bundle = self._workplace.portal.call(
                self._shelf.collect,
                failure,
                [live.environment for live in used],
                self._workplace.recorder,
                former=former,
                timeout_s=_COLLECT_S,
            )
        except Exception as error:  # an observer must not change what it observes
            report.sections.append(("carthage", f"no artifacts: {reason(error)}"))
            return
        reword(report, bundle.whereabouts)
        lines = [*bundle.meanwhile, f"artifacts: {bundle.folder}"]
        report.sections.append(("carthage", "\n".join(lines)))

    def _kept(self, item: pytest.Item, names: Sequence[str]) -> list[str]:
        """What stays of the environments of a failed test, and how to have it stay."""
        settings = self._workplace.settings
        lines = [
            f"{name} {self._environments.stay(name)}; get in: pytest-carthage shell "
            f"{name}/MACHINE; remove: pytest-carthage rm {name}"
            for name in names
            if self._environments.stays(name)
        ]
        gone = [name for name in names if not self._environments.stays(name)]
        if gone and (settings.keep or settings.keep_on_fail):
            lines += [f"nothing of {name}: {self._environments.unkept(name)}" for name in gone]
        elif gone:
            lines.append(
                f"nothing; to have it stay: {again(item.config, item.nodeid)} --keep-on-fail"
            )
        return lines
