"""What a run lets builds do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_carthage.images.locks.lock import Lock

__all__ = ["Policy"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What a run lets builds do."""

    #: nothing may be fetched
    offline: bool = False
    #: what was locked: a build that would differ is refused
    lock: Lock | None = None
    #: keep a build that failed, for a look
    keep_broken: bool = False
