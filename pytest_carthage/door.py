"""What the fixture of a declaration asks of the pytest session in which it runs.

A layout, an image and a stage are fixtures, and know nothing of our plugin: it leaves its answer
in the session's stash when it is configured.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import pytest

__all__ = ["DOOR", "Door", "door_of"]


class Door(Protocol):
    """Makes declarations alive for the tests of one pytest session."""

    def layout_fixture(self, layout: Any, request: pytest.FixtureRequest, /) -> Iterator[Any]:
        """Build a layout class, yield it live, then tear it down or keep it."""
        ...

    def image_fixture(self, image: Any, request: pytest.FixtureRequest, /) -> Iterator[Any]:
        """Build an image and yield its handle."""
        ...

    def run_stage(
        self, stage: Any, arguments: Mapping[str, Any], request: pytest.FixtureRequest, /
    ) -> Any:
        """Run a stage with the values of the fixtures that it asks for; gives what it returns."""
        ...


#: opens the door; what costs time is imported by the first one that calls it
DOOR = pytest.StashKey[Callable[[], Door]]()


def door_of(request: pytest.FixtureRequest, subject: str) -> Door:
    """Find what makes declarations alive in this session.

    :param subject: who asks, as in ``layout 'Shop'``.
    :raises pytest.fail.Exception: our plugin is not loaded.
    """
    __tracebackhide__ = True
    opened = request.config.stash.get(DOOR, None)
    if opened is None:
        pytest.fail(
            f"{subject}: its fixture {request.fixturename!r} needs the plugin of pytest-carthage, "
            "which is not loaded in this session; try: pytest without '-p no:carthage', or with "
            "'-p pytest_carthage.plugin' where plugins are not loaded by themselves",
            pytrace=False,
        )
    return opened()
