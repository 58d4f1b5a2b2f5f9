"""What Ansible is to see of a live layout."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pytest_carthage.events import Reporter
    from pytest_carthage.planning.plan import Plan

__all__ = ["Environment"]


class Environment(Protocol):
    """What is needed of a live layout."""

    @property
    def name(self) -> str:
        """The environment's name."""
        ...

    @property
    def folder(self) -> Path:
        """Its private folder."""
        ...

    @property
    def socket(self) -> Path:
        """UNIX socket of its fabric."""
        ...

    @property
    def plan(self) -> Plan:
        """What it was built from, machines that were added later included."""
        ...

    @property
    def reporter(self) -> Reporter:
        """Who is told of progress."""
        ...
