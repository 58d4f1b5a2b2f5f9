"""Tracebacks that show the author's code, and not how this package carries it out."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import dis
import inspect
import sysconfig
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
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
_STDLIB = sysconfig.get_path("stdlib") + "/"
#: folders below that which are others'
_PACKAGES = ("/site-packages/", "/dist-packages/")
#: the hook that sets a fixture up
_HOOK = "pytest_fixture_setup"
#: of a ``raise`` statement
_RAISE = dis.opmap["RAISE_VARARGS"]


def begin_in(error: BaseException, function: Callable[..., Any]) -> None:
    """Cut off what led to ``function`` from an error's traceback."""
    code = inspect.unwrap(function).__code__
    entry: TracebackType | None = error.__traceback__
    while entry is not None:
        if entry.tb_frame.f_code is code:
            error.__traceback__ = entry
            return
        entry = entry.tb_next


def shorten(excinfo: pytest.ExceptionInfo[BaseException]) -> pytest.ExceptionInfo[BaseException]:
    """Leave out this package's frames from an error that it raised on purpose.

    Its message says what a person needs; so do the author's own frames, the last of which is where
    a debugger begins.
    """
    error = excinfo.value
    kept = _without_ours(error.__traceback__)
    if kept is None or not _is_on_purpose(error):
        return excinfo
    error.__traceback__ = kept
    # what it was mapped from says the same in a library's words, unless it is an author's
    error.__suppress_context__ = True
    cause = error.__cause__
    if isinstance(cause, CarthageError) or (isinstance(cause, OSError) and culprit(cause) is None):
        error.__cause__ = None
    elif cause is not None:
        cause.__traceback__ = _without_ours(cause.__traceback__) or cause.__traceback__
    return pytest.ExceptionInfo.from_exc_info((type(error), error, kept))


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
    """Whether it is ours, or one of Python's own that was raised here, or by the system for us.

    What a line of ours has met that it should not (``None.x``, a key that is not there) is shown
    with that line.
    """
    if isinstance(error, CarthageError):
        return True
    entries = list(_entries(error.__traceback__))
    if not entries or not entries[-1].is_under_ours:
        return False
    last = entries[-1].entry
    is_raised = last.tb_frame.f_code.co_code[last.tb_lasti] == _RAISE
    return isinstance(error, OSError) or (is_raised and entries[-1].is_ours)


@dataclass(frozen=True, slots=True)
class _Entry:
    """One entry of a traceback."""

    entry: TracebackType
    #: whether it is of this package, or of what carries it out
    is_ours: bool
    #: whether it is that, or was called by it and is no author's
    is_under_ours: bool


def _entries(entry: TracebackType | None) -> Iterator[_Entry]:
    is_under_ours = False
    while entry is not None:
        file = entry.tb_frame.f_code.co_filename
        is_ours = file.startswith(_HIDDEN)
        is_library = file.startswith(_STDLIB) and not any(part in file for part in _PACKAGES)
        is_under_ours = is_ours or (is_under_ours and is_library)
        yield _Entry(entry, is_ours, is_under_ours)
        entry = entry.tb_next


def _without_ours(entry: TracebackType | None) -> TracebackType | None:
    """Copy a traceback but for our own entries (pytest cuts the chain itself, not a list).

    Hooks of other plugins that led to a fixture go, too.
    """
    entries = [
        each.entry
        for each in _entries(entry)
        if not each.is_under_ours and each.entry.tb_frame.f_code.co_name != _HOOK
    ]
    kept: TracebackType | None = None
    for each in reversed(entries):
        kept = TracebackType(kept, each.tb_frame, each.tb_lasti, each.tb_lineno)
    return kept
