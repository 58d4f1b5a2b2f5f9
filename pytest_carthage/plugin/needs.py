"""The mark ``carthage_needs``: what a test asks of the host, looked at before it starts."""

from __future__ import annotations

import pytest

from pytest_carthage.errors import HostError
from pytest_carthage.live.faults.probing import lacking
from pytest_carthage.plugin.settings import settings_of
from pytest_carthage.screens import recognition

__all__ = ["MARK", "check"]

MARK = "carthage_needs"
#: the one thing that may be named and is no fault
_SCREEN_TEXT = "screen_text"


def check(item: pytest.Item, marks: list[pytest.Mark]) -> None:
    """Skip a test that cannot be done here, with the reason; fail it under ``--carthage-strict``.

    :raises pytest.fail.Exception: also for a kind of fault that there is not.
    """
    __tracebackhide__ = True
    names = [name for mark in marks for name in mark.args]
    problem = recognition.lacks() if _SCREEN_TEXT in names else None
    try:
        problems = [
            *lacking([name for name in names if name != _SCREEN_TEXT]),
            *([problem] if problem is not None else []),
        ]
    except ValueError as error:
        pytest.fail(f"mark {MARK}: {error}", pytrace=False)
    try:
        if problems:
            raise HostError(problems)
    except HostError as error:
        reason = f"{item.name} cannot be run here: {'; '.join(map(str, error.problems))}"
        if settings_of(item.config).strict:
            pytest.fail(reason, pytrace=False)
        raise pytest.skip.Exception(reason, _use_item_location=True) from None
