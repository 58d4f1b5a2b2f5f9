"""Reports of tests in a form that can go from a worker to its session."""

from __future__ import annotations

from typing import Any

from pytest_carthage.handles.encoding import printable

__all__ = ["plain"]


def plain(value: Any) -> Any:
    """A report's values without what is no text.

    What a machine printed may have bytes that are none, and a failed assertion shows it: xdist
    would lose the worker that tells of it.
    """
    if isinstance(value, str):
        return value if value.isascii() else printable(value)
    if isinstance(value, dict):
        return {plain(key): plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(plain, value))
    return value
