"""What was removed from a store, or would be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["GRACE_S", "Kind", "Removed"]

Kind = Literal["image", "layer", "disk", "broken build", "work folder", "locks", "packages"]

#: what may be used although nothing tells so is left alone for so long
GRACE_S = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Removed:
    """One thing that was removed, or would be."""

    kind: Kind
    name: str
    #: bytes on disk that it took
    size: int
