"""What a machine printed, or a part of it."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Printed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Printed:
    """What a machine printed from some moment on; of very much the beginning and the end."""

    text: str
    #: bytes of its log that are before that
    before: int = 0
    #: bytes of its log that are left out within it
    left_out: int = 0
