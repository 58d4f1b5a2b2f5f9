"""Other words in a report of pytest's, wherever it has them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

__all__ = ["reword"]


def reword(report: pytest.TestReport, change: Callable[[str], str]) -> None:
    """Change what a report says of an error."""
    report.longrepr = _reworded(report.longrepr, change)


def _reworded(value: Any, change: Callable[[str], str]) -> Any:
    """The same, with other texts in what pytest builds of texts, lists and its own classes."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, (list, tuple)):
        return type(value)(_reworded(item, change) for item in value)
    if type(value).__module__.startswith("_pytest."):
        for name, item in list(vars(value).items()):
            setattr(value, name, _reworded(item, change))
    return value
