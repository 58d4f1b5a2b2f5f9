"""Tests during which a machine of theirs has collapsed, whether they have noticed or not.

Registered with the first layout of a session: a session without layouts has none of these hooks.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_carthage.live.environment import AsyncLayout

__all__ = ["Collapses"]


class Collapses:
    """Fails a test that would pass though a machine of its layouts has had a panic.

    One that fails anyway is told of that beside its error, and one that has met it, as it may have
    wanted to, is not told again.

    :param environments: gives those that a test uses.
    """

    def __init__(self, environments: Callable[[pytest.Item], Sequence[AsyncLayout]]) -> None:
        self._environments = environments

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, object, object]:
        """Look at its machines when a test has passed."""
        value = yield
        collapses = [text for each in self._environments(item) for text in each.take_collapses()]
        if collapses:
            pytest.fail("\n".join([*collapses, _WHY]), pytrace=False)
        return value


_WHY = (
    "no line of the test has met this, and what it has shown may not be so; "
    "try: pytest.raises(CarthageError) around what is to bring a machine down"
)
