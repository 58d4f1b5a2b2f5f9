"""Tests that run again in one session, as those of pytest-rerunfailures do."""

from __future__ import annotations

from collections.abc import Callable

import pytest

__all__ = ["Reruns"]


class Reruns:
    """Tells that a test which was run before is run again: what became of it then is past.

    :param again: is given its node id, before anything is built for it.
    """

    def __init__(self, again: Callable[[str], None]) -> None:
        self._again = again

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Tell it."""
        self._again(item.nodeid)
