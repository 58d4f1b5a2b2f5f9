"""Where in the author's code a declaration stands."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from types import FrameType

__all__ = ["Place", "author_frame"]

# Modules whose frames are never the author's own line.
_PASSED_THROUGH = (
    "pytest_carthage.model",
    "pytest_carthage.planning",
    "pytest_carthage.live",
    "pytest_carthage.roles",
    "pytest_carthage.bridge",
    "dataclasses",
    "copy",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A file and a line, as in ``conftest.py:12``."""

    file: str
    line: int

    @classmethod
    def of_author(cls) -> Place:
        """The innermost calling line that is not this package's own, or what is said to be it."""
        if (said := _SAID.get()) is not None:
            return said
        frame = author_frame()
        return cls(file=frame.f_code.co_filename, line=frame.f_lineno)

    @contextlib.contextmanager
    def said(self) -> Iterator[None]:
        """A block in which whatever is declared stands here: it is read from a file."""
        token = _SAID.set(self)
        try:
            yield
        finally:
            _SAID.reset(token)

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


_SAID: ContextVar[Place | None] = ContextVar("carthage_place", default=None)


def author_frame() -> FrameType:
    """The innermost frame of the caller's that is not this package's own."""
    frame = sys._getframe(1)
    while frame.f_back is not None and (
        _is_made(frame) or _passed_through(frame.f_globals.get("__name__", ""))
    ):
        frame = frame.f_back
    return frame


def _is_made(frame: FrameType) -> bool:
    """Whether it runs what a dataclass wrote."""
    return frame.f_code.co_filename == "<string>" and frame.f_code.co_name == "__init__"


def _passed_through(module: str) -> bool:
    return any(module == own or module.startswith(f"{own}.") for own in _PASSED_THROUGH)
