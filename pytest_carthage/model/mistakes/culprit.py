"""Where in an author's code an exception comes from, and how messages say so.

Functions of authors are called in many places: when a layout is made, while it comes to life, and
while it lives. Whatever they raise is mapped to an error of ours where they are called, which says
who called what and on which of the author's lines it failed; their exception is its cause.
"""

from __future__ import annotations

import inspect
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pytest_carthage.errors import CarthageError
from pytest_carthage.model.mistakes.place import Place

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

__all__ = ["Authored", "culprit", "described", "passes_through"]


def passes_through(error: BaseException) -> bool:
    """Whether an exception is no failure of the code that it comes from: somebody else ends it."""
    # asyncio is not imported for its name alone
    cancelled = type(error).__name__ == "CancelledError"
    return cancelled or isinstance(error, GeneratorExit | KeyboardInterrupt)


def culprit(error: BaseException, function: object = None) -> Place | None:
    """The author's line that an exception comes from; None: no line of theirs is to blame.

    It is the innermost that is in no library, or else in none of Python's own.

    :param function: whose own line it is where it could not even be called.
    """
    while isinstance(error, BaseExceptionGroup):  # of a task group: the first is the cause
        error = error.exceptions[0]
    places: dict[str, Place] = {}
    for entry in _entries(error.__traceback__):
        if not _is_ours(entry.tb_frame.f_globals.get("__name__", "")):
            file = entry.tb_frame.f_code.co_filename
            places[_owner(file)] = Place(file=file, line=entry.tb_lineno)
    if (place := places.get("author") or places.get("distribution")) is not None:
        return place
    try:
        code = getattr(inspect.unwrap(function), "__code__", None) if callable(function) else None
        module = str(getattr(function, "__module__", "") or "")
    except Exception:  # an object of the author's that can be called, and no more
        return None
    if code is None or _is_ours(module):
        return None
    return Place(file=code.co_filename, line=code.co_firstlineno)


def described(error: BaseException, function: object = None) -> str:
    """An exception of an author's code as a message tells it: kind, words, and the line.

    Errors of ours have no need to name their kind.
    """
    place = culprit(error, function)
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    try:
        text = str(error).rstrip()
    except Exception:  # its own words fail
        text = ""
    if not isinstance(error, CarthageError | OSError):
        text = f"{type(error).__name__}: {text}".rstrip(": ")
    if place is None:
        return text
    first, end, rest = text.partition("\n")
    colon = ":" if end and first.endswith(":") else ""
    return f"{first.removesuffix(colon)} (at {place}){colon}{end}{rest}"


class Authored:
    """A block in which an author's function is called: what it raises becomes an error of ours.

    :param who: how the message begins, as in ``"subscriber notify of LinkResolved"``.
    :param kind: the error to raise, with what the function raised as its cause.
    """

    def __init__(self, who: str, kind: type[CarthageError], function: object = None) -> None:
        self._who = who
        self._kind = kind
        self._function = function

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: object
    ) -> None:
        if error is None or passes_through(error):
            return
        raise self._kind(f"{self._who} failed: {described(error, self._function)}") from error


def _entries(trace: TracebackType | None) -> Iterator[TracebackType]:
    while trace is not None:
        yield trace
        trace = trace.tb_next


def _is_ours(module: str) -> bool:
    """Whether a module is of this package, and no role: roles are told of as authors' are."""
    return module.partition(".")[0] == "pytest_carthage" and not module.startswith(
        "pytest_carthage.roles."
    )


def _owner(file: str) -> Literal["author", "distribution", "python"]:
    """Whose file it is; a distribution is whatever was installed."""
    parts = Path(file).parts
    if "site-packages" in parts or "dist-packages" in parts:
        return "distribution"
    if sys.prefix != sys.base_prefix and Path(file).is_relative_to(sys.prefix):
        return "distribution"
    import sysconfig

    standard = sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")
    if file.startswith("<frozen") or any(Path(file).is_relative_to(place) for place in standard):
        return "python"
    return "author"
