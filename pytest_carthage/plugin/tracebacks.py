"""Tracebacks that show the author's code, and not how this package carries it out."""

from __future__ import annotations

import asyncio
import concurrent.futures
import inspect
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

from pytest_carthage.errors import CarthageError

__all__ = ["begin_in", "shorten"]

_HIDDEN = tuple(
    str(folder) + "/"
    for folder in (
        Path(__file__).resolve().parents[1],
        Path(asyncio.__file__).parent,
        Path(concurrent.futures.__file__).parent,
    )
)


def begin_in(error: BaseException, function: Callable[..., Any]) -> None:
    """Cut off what led to ``function`` from an error's traceback."""
    code = inspect.unwrap(function).__code__
    entry: TracebackType | None = error.__traceback__
    while entry is not None:
        if entry.tb_frame.f_code is code:
            error.__traceback__ = entry
            return
        entry = entry.tb_next


def shorten(excinfo: pytest.ExceptionInfo[BaseException]) -> None:
    """Leave out this package's frames from an error that it raised on purpose.

    Its message says what a person needs; so do the author's own frames.
    """
    error = excinfo.value
    if not _is_on_purpose(error):
        return
    kept = _without_ours(error.__traceback__)
    if kept is not None:
        error.__traceback__ = kept
        excinfo.traceback = type(excinfo.traceback)(kept)
    # what it was mapped from says the same in a library's words
    error.__suppress_context__ = True
    if isinstance(error.__cause__, CarthageError | OSError):
        error.__cause__ = None


def _is_on_purpose(error: BaseException) -> bool:
    """Whether it is ours, or one of Python's own that tells of a machine or layout."""
    if isinstance(error, CarthageError):
        return True
    return isinstance(error, OSError | AssertionError) and "layout '" in str(error)


def _without_ours(entry: TracebackType | None) -> TracebackType | None:
    """Copy a traceback but for our own entries (pytest cuts the chain itself, not a list)."""
    entries: list[TracebackType] = []
    while entry is not None:
        if not entry.tb_frame.f_code.co_filename.startswith(_HIDDEN):
            entries.append(entry)
        entry = entry.tb_next
    kept: TracebackType | None = None
    for each in reversed(entries):
        kept = TracebackType(kept, each.tb_frame, each.tb_lasti, each.tb_lineno)
    return kept
