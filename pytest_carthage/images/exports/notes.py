"""Telling how far an export is."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["Note", "quiet"]

#: is told what happens, in a few words
Note = Callable[[str], None]


def quiet(text: str) -> None:
    """Tell nobody."""
