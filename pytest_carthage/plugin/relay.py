"""Progress of the workers of pytest-xdist, on the terminal of their controller.

It goes through a channel of execnet beside those of pytest-xdist, so it comes from wherever a
worker runs, and when it happens.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from typing import Any

import pytest

from pytest_carthage.events import Event, Reporter
from pytest_carthage.plugin.screen import Screen, running_test

__all__ = ["listen", "reporters"]

_CHANNEL = "carthage_progress"
#: of the controller, made with the first event
_SCREEN = pytest.StashKey[Screen]()
_making = threading.Lock()


class _Relay:
    """A worker's reporter: sends events to its controller."""

    def __init__(self, channel: Any) -> None:
        self._channel = channel

    def event(self, event: Event, /) -> None:
        """Send it, with the test that runs here; a controller that is gone needs none."""
        record = asdict(replace(event, test=running_test()))
        try:
            self._channel.send(record)
        except OSError:
            return


def reporters(config: pytest.Config) -> Iterator[Reporter]:
    """What a worker tells its events, too; nothing elsewhere."""
    channel = getattr(config, "workerinput", {}).get(_CHANNEL)
    if channel is not None:
        yield _Relay(channel)


def listen(node: Any) -> None:
    """Show what a worker tells; call it while the worker is being configured."""
    channel = node.gateway.newchannel()
    channel.setcallback(functools.partial(_show, node.config))
    node.workerinput[_CHANNEL] = channel


def _show(config: pytest.Config, record: Mapping[str, Any]) -> None:
    with _making:
        if _SCREEN not in config.stash:
            screen = config.stash[_SCREEN] = Screen(config)
            config.add_cleanup(screen.close)
    config.stash[_SCREEN].event(Event(**record))
