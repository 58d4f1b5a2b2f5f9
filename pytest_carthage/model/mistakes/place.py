"""Where in the author's code a declaration stands."""

from __future__ import annotations

import sys
from dataclasses import dataclass

__all__ = ["Place"]

# Modules whose frames are never the author's own line.
_PASSED_THROUGH = (
    "pytest_carthage.model",
    "pytest_carthage.planning",
    "pytest_carthage.live",
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
        """The innermost calling line that is not this package's own."""
        frame = sys._getframe(1)
        while frame.f_back is not None and _passed_through(frame.f_globals.get("__name__", "")):
            frame = frame.f_back
        return cls(file=frame.f_code.co_filename, line=frame.f_lineno)

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


def _passed_through(module: str) -> bool:
    return any(module == own or module.startswith(f"{own}.") for own in _PASSED_THROUGH)
