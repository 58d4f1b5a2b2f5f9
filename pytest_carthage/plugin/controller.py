"""The controller of pytest-xdist, whose workers have the layouts: it has them end in good order."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from pytest_carthage.errors import StateError
from pytest_carthage.plugin.interrupts import Interrupts
from pytest_carthage.plugin.summary import run_exists
from pytest_carthage.plugin.workplace import hard_stop
from pytest_carthage.state import listing

if TYPE_CHECKING:
    import pytest

__all__ = ["register"]

_NAME = "carthage-interrupts"
_USE = "carthage-use-of-workers"


class Use:
    """Whether workers use layouts, or have used some: their run is gone before all is written."""

    def __init__(self, run: str) -> None:
        self._run = run
        self._is_known = False

    def pytest_runtest_logreport(self) -> None:
        """Look while a test that may use one has just ended."""
        self.look()

    def look(self) -> bool:
        """Whether it is so."""
        self._is_known = self._is_known or run_exists(self._run)
        return self._is_known


def register(config: pytest.Config, run: str) -> None:
    """Have signals end a session in good order whose workers use layouts; once is enough.

    :param run: name of the run that the workers have in common.
    """
    if config.pluginmanager.hasplugin(_NAME):
        return
    use = Use(run)
    interrupts = Interrupts(
        say=lambda message: _say(config, f"carthage: {message}"),
        hard_stop=lambda number: _stop_hard(config, run, number),
        is_ours=use.look,
    )
    config.pluginmanager.register(use, _USE)
    config.pluginmanager.register(interrupts, _NAME)
    interrupts.install()


def _say(config: pytest.Config, text: str) -> None:
    terminal: Any = config.pluginmanager.getplugin("terminalreporter")
    if terminal is not None:
        terminal.ensure_newline()
        terminal.write_line(text)
        terminal.flush()


def _stop_hard(config: pytest.Config, run: str, number: int) -> None:
    try:
        there = [each for each in listing.list_environments() if each.run == run and not each.kept]
    except (OSError, StateError):
        there = []
    for line in hard_stop({each.name: each.machines for each in there}):
        _say(config, line)
    os._exit(128 + number)
