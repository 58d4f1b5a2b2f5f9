"""How an image was made, layer by layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_carthage.store.built import Built

__all__ = ["HistoryEntry", "history"]


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryEntry:
    """What was done for one layer, as ``docker history`` tells it."""

    #: key of the layer
    key: str
    title: str
    #: class of the role whose task it was; empty: none
    role: str
    command: str
    #: seconds since the epoch
    made_at: float
    #: seconds that it took
    seconds: float
    #: bytes on disk
    size: int


def history(built: Built) -> list[HistoryEntry]:
    """What was done, the base first."""
    return [
        HistoryEntry(
            key=layer.key,
            title=layer.meta.title,
            role=layer.meta.role,
            command=layer.meta.command or layer.meta.title,
            made_at=layer.meta.made_at,
            seconds=layer.meta.seconds,
            size=layer.meta.size,
        )
        for layer in built.layers
    ]
