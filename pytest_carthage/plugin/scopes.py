"""Faults end with whoever began them: a test, a fixture, or the layout itself.

Registered with the first layout of a session: a session without layouts has none of these hooks.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import TYPE_CHECKING, Any

import pytest

from pytest_carthage.errors import CarthageError
from pytest_carthage.plugin.cycles import stage_of

if TYPE_CHECKING:
    from pytest_carthage.live.environment import AsyncLayout
    from pytest_carthage.live.faults.disturbance import AsyncDisturbance

__all__ = ["Scopes"]


class Scopes:
    """Heals what its beginner has forgotten.

    :param environments: gives those that are live.
    """

    def __init__(self, environments: Callable[[], Sequence[AsyncLayout]]) -> None:
        self._environments = environments
        #: faults that do not end with a test, but with a fixture or their layout
        self._owned: set[AsyncDisturbance] = set()

    def _loose(self) -> list[AsyncDisturbance]:
        """Faults in force that nobody owns, the newest first."""
        loose = [
            fault
            for environment in self._environments()
            for fault in environment.rooms.faults.begun
            if fault.is_active
            and fault not in self._owned
            and not (fault.part_of is not None and fault.part_of.is_active)
        ]
        return loose[::-1]

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(
        self, fixturedef: Any, request: pytest.FixtureRequest
    ) -> Generator[None, Any, Any]:
        """Note which faults a fixture begins: they last as long as it does."""
        __tracebackhide__ = True
        before = set(self._loose())
        own: list[AsyncDisturbance] = []

        def end() -> None:
            __tracebackhide__ = True
            _fail(_heal(own))
            self._owned.difference_update(own)

        if stage_of(fixturedef) is None:  # else they are the layout's
            fixturedef.addfinalizer(end)  # before its own ones, so that it runs after them
        try:
            return (yield)
        finally:
            own += [fault for fault in self._loose() if fault not in before]
            self._owned.update(own)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Generator[None, None, None]:
        """Heal what the test began; by now it was looked at, if it has failed."""
        __tracebackhide__ = True
        errors = _heal(self._loose())
        try:
            yield
        finally:
            errors += _heal(self._loose())
        _fail(errors)


def _heal(faults: Sequence[AsyncDisturbance]) -> list[str]:
    """Heal faults; returns what went wrong."""
    errors = []
    # first whoever would begin more
    for fault in sorted(faults, key=lambda fault: fault.kind != "storm"):
        try:
            fault.portal.call(fault.heal)
        except CarthageError as error:
            errors.append(f"fault {fault.subject!r} was not healed: {error}")
    return errors


def _fail(errors: Sequence[str]) -> None:
    __tracebackhide__ = True
    if errors:
        pytest.fail("\n".join(errors), pytrace=False)
