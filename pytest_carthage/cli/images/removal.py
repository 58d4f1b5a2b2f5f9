"""What was removed, as JSON has it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_carthage.store.removed import Removed

__all__ = ["row"]


def row(gone: Removed) -> dict[str, Any]:
    """What was removed, as JSON has it."""
    return {"kind": gone.kind, "name": gone.name, "bytes": gone.size}
