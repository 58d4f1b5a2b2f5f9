"""Coverage of Ansible's code: a folder that all processes of a session share, read at its end."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_carthage.plugin.options import COVERAGE
from pytest_carthage.report.coverage import missing, table
from pytest_carthage.work.ansible.coverage.coverage import Coverage, read

if TYPE_CHECKING:
    from pytest_carthage.plugin.settings import Settings

__all__ = ["begin", "share", "write"]

#: environment variable of the callback in Ansible, and entry of a worker's input
_VARIABLE = "CARTHAGE_ANSIBLE_COVERAGE"
_INPUT = "carthage_iac_coverage"
#: lines of what was not reached that the terminal shows
_MOST_LINES = 50

_RECORDING = pytest.StashKey["Recording"]()


class Recording:
    """What all runs of Ansible in a session have left, for the process that tells of it."""

    def __init__(self, config: pytest.Config, settings: Settings, folder: Path) -> None:
        self._config = config
        self._settings = settings
        self.folder = folder
        #: None: the session has not ended
        self.coverage: Coverage | None = None

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self) -> None:
        """Bring it together, and write the file."""
        self.coverage = read(
            self.folder, root=self._config.rootpath, without=Path(tempfile.gettempdir())
        )
        file = self._settings.iac_coverage_file
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(self.coverage.record(), indent=1) + "\n")

    def lines(self) -> list[str]:
        """What people are shown."""
        coverage, file = self.coverage, self._settings.iac_coverage_file
        if coverage is None or not coverage.sources:
            return ["no run of Ansible has begun a play"]
        lines = missing(coverage)
        more = len(lines) - _MOST_LINES
        if more > 0:
            where = "in the file" if file is not None else "try: --carthage-iac-coverage=FILE"
            lines[_MOST_LINES:] = [f"... and {more} more; {where}"]
        if file is not None:
            lines.append(f"written to {file}")
        return [*table(coverage), *lines]


def begin(config: pytest.Config, settings: Settings) -> None:
    """Have each run of Ansible tell what it reaches; the controller makes the folder."""
    worker: dict[str, Any] | None = getattr(config, "workerinput", None)
    if worker is not None:
        folder = worker[_INPUT]
    else:
        temporary = tempfile.TemporaryDirectory(prefix="carthage-coverage-")
        config.add_cleanup(temporary.cleanup)
        folder = temporary.name
        recording = Recording(config, settings, Path(folder))
        config.stash[_RECORDING] = recording
        config.pluginmanager.register(recording, COVERAGE)
    before = os.environ.get(_VARIABLE)
    os.environ[_VARIABLE] = folder
    config.add_cleanup(lambda: _restore(before))


def share(node: Any) -> None:
    """Tell a worker of pytest-xdist of the folder."""
    node.workerinput[_INPUT] = str(node.config.stash[_RECORDING].folder)


def write(terminal: pytest.TerminalReporter) -> None:
    """Write the section; nothing where nobody asked for it."""
    recording = terminal.config.stash.get(_RECORDING, None)
    if recording is not None:
        terminal.section("coverage of Ansible's code")
        for line in recording.lines():
            terminal.write_line(line)


def _restore(before: str | None) -> None:
    if before is None:
        os.environ.pop(_VARIABLE, None)
    else:
        os.environ[_VARIABLE] = before
