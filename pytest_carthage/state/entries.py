"""An identity as the journal keeps it, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_carthage.provider import Identity

if TYPE_CHECKING:
    from pytest_carthage.state.journal import Entry

__all__ = ["as_entry", "from_entry"]


def as_entry(identity: Identity) -> Entry:
    """An identity as the journal keeps it."""
    return {
        "kind": identity.kind,
        "run": identity.run,
        "environment": identity.environment,
        "name": identity.name,
        "detail": [list(pair) for pair in identity.detail],
        "outside": identity.outside,
    }


def from_entry(entry: Entry) -> Identity:
    """An identity as it was written to the journal."""
    return Identity(
        kind=entry["kind"],
        run=entry["run"],
        environment=entry["environment"],
        name=entry["name"],
        detail=tuple((key, value) for key, value in entry["detail"]),
        outside=entry["outside"],
    )
