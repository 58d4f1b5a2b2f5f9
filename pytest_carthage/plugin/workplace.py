"""What all that a session builds has in common: its event loop, its progress, its interrupts."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping

import pytest

from pytest_carthage.events import Fanout, Recorder
from pytest_carthage.plugin import relay
from pytest_carthage.plugin.interrupts import Interrupts
from pytest_carthage.plugin.screen import Screen
from pytest_carthage.plugin.settings import settings_of
from pytest_carthage.portal import Portal
from pytest_carthage.state.timings import Stopwatch

__all__ = ["Workplace", "hard_stop"]


class Workplace:
    """Where layouts and images are built and stages run."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.settings = settings_of(config)
        self.recorder = Recorder()
        self.stopwatch = Stopwatch()
        self.screen = Screen(config)
        self.reporter = Fanout(
            [self.recorder, self.screen, self.stopwatch, *relay.reporters(config)]
        )
        self.interrupts = Interrupts(say=self._say, hard_stop=self._stop_hard)
        #: environments that are there or being built: name to what lists their machines
        self.standing: dict[str, Callable[[], Iterable[str]]] = {}
        self._portal: Portal | None = None

    @property
    def portal(self) -> Portal:
        """The event loop on which everything lives, started when first used."""
        if self._portal is None:
            self._portal = Portal()
        return self._portal

    @contextlib.contextmanager
    def building(self) -> Iterator[None]:
        """Have signals end what the block builds, and the session, in order."""
        with self.interrupts.building():
            self.interrupts.install()
            yield

    @contextlib.contextmanager
    def closing(self) -> Iterator[None]:
        """Have a first signal not disturb what the block tears down."""
        with self.interrupts.closing():
            yield

    def close(self) -> None:
        """Give everything back but the event loop."""
        self.screen.close()
        self.interrupts.restore()
        self.stopwatch.save()

    def close_portal(self) -> None:
        """Stop the event loop."""
        portal, self._portal = self._portal, None
        if portal is not None:
            portal.close()

    def _say(self, message: str) -> None:
        self.screen.say(f"carthage: {message}", yellow=True)

    def _stop_hard(self, number: int) -> None:
        lines = hard_stop({name: machines() for name, machines in self.standing.items()})
        self.screen.pause()
        for line in lines:
            self.screen.say(line, red=True)
        os._exit(128 + number)


def hard_stop(standing: Mapping[str, Iterable[str]]) -> list[str]:
    """What a person is told who ends a session at once.

    :param standing: environments, and their machines.
    """
    if not standing:
        return ["carthage: hard stop; nothing stands that would have to be removed"]
    lines = ["carthage: hard stop; the supervisor now removes:"]
    return lines + [f"  {name}: {', '.join(machines)}" for name, machines in standing.items()]
