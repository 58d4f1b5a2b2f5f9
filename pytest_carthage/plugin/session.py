"""One pytest session that uses layouts, images or stages.

Made when the first of them is set up, and registered as a plugin at that moment: a session
without has none of these hooks.
"""

from __future__ import annotations

import pytest

from pytest_carthage.plugin import blocked
from pytest_carthage.plugin.askers import Askers
from pytest_carthage.plugin.bundles import Bundles, shelf_of
from pytest_carthage.plugin.causes import Causes
from pytest_carthage.plugin.collapses import Collapses
from pytest_carthage.plugin.environments import Environments
from pytest_carthage.plugin.gates import GateNews
from pytest_carthage.plugin.images import Images
from pytest_carthage.plugin.options import SESSION
from pytest_carthage.plugin.policies import Policies
from pytest_carthage.plugin.refusals import Refusals
from pytest_carthage.plugin.reruns import Reruns
from pytest_carthage.plugin.scopes import Scopes
from pytest_carthage.plugin.stages import Stages
from pytest_carthage.plugin.workplace import Workplace

__all__ = ["Session"]


class Session:
    """The parts of a session, and its end."""

    def __init__(self, config: pytest.Config) -> None:
        self._workplace = Workplace(config)
        causes = Causes(config)
        policies = Policies(self._workplace.settings)
        shelf = shelf_of(config)
        askers = Askers()
        self.environments = environments = Environments(
            self._workplace, causes, policies, shelf, askers
        )
        self.refusals = Refusals(config, causes)
        self.images = Images(self._workplace, causes, policies)
        self.stages = Stages(self._workplace, causes, environments)
        #: plugins of their own, by name
        self.plugins: dict[str, object] = {
            "carthage-interrupts": self._workplace.interrupts,
            "carthage-askers": askers,
            "carthage-causes": causes,
            "carthage-bundles": Bundles(self._workplace, causes, environments, shelf),
            "carthage-collapses": Collapses(
                lambda item: [live.environment for live in environments.used_by(item)]
            ),
            "carthage-gates": GateNews(
                config, lambda: (gate.record.totals for gate in environments.gates)
            ),
            "carthage-reruns": Reruns(environments.runs_again),
            "carthage-screen": self._workplace.screen,
            "carthage-scopes": Scopes(lambda: [live.environment for live in environments.live]),
        }

    @classmethod
    def of(cls, config: pytest.Config) -> Session:
        """Give the session's own, made and registered at the first call."""
        session = config.pluginmanager.getplugin(SESSION)
        if session is None:
            session = cls(config)
            config.pluginmanager.register(session, SESSION)
            blocked.register(config)
            for name, plugin in session.plugins.items():
                config.pluginmanager.register(plugin, name)
            config.add_cleanup(session.close)
        assert isinstance(session, cls)
        return session

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Say what environments cost that came again and again."""
        if terminalreporter.config.get_verbosity() >= 0:
            for line in self.environments.tally.lines:
                terminalreporter.write_line(f"carthage: {line}")

    def close(self) -> None:
        """Leave the run, and stop the event loop. What is not kept is destroyed by then."""
        self._workplace.close()
        self.stages.close()
        self.environments.close()
        self._workplace.close_portal()
