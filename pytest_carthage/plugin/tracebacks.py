"""Tracebacks that show the author's code, and not how this package carries it out."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import inspect
import traceback
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

from pytest_carthage.errors import CarthageError
from pytest_carthage.model.mistakes.culprit import culprit

__all__ = ["begin_in", "of_author", "shorten"]

#: beginnings of paths: of folders, and of a module
_HIDDEN = (
    *(
        str(folder) + "/"
        for folder in (
            Path(__file__).resolve().parents[1],
            Path(asyncio.__file__).parent,
            Path(concurrent.futures.__file__).parent,
        )
    ),
    contextlib.__file__,
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
    # what it was mapped from says the same in a library's words, unless it is an author's
    error.__suppress_context__ = True
    cause = error.__cause__
    if isinstance(cause, CarthageError) or (isinstance(cause, OSError) and culprit(cause) is None):
        error.__cause__ = None
    elif cause is not None:
        cause.__traceback__ = _without_ours(cause.__traceback__) or cause.__traceback__


def of_author(error: BaseException) -> str:
    """The traceback of an author's code that an error of ours is caused by; empty: it is none's.

    An error of ours on the way has said it all.
    """
    cause = error.__cause__
    if cause is None or isinstance(cause, CarthageError) or culprit(cause) is None:
        return ""
    own = _without_ours(cause.__traceback__)
    return "".join(traceback.format_exception(type(cause), cause, own, chain=False)).rstrip()


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
