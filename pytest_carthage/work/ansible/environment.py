"""What Ansible is to see of a live layout."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pytest_carthage.events import Reporter
    from pytest_carthage.planning.plan import Plan
    from pytest_carthage.work.ansible.station import Station

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

    def ansible_station(
        self, outside: Sequence[str], *, for_s: float
    ) -> AbstractAsyncContextManager[Station]:
        """Where plays run, while the block does.

        :param outside: what they reach of the world: ``"host:port"``, or the path of a socket.
        :param for_s: seconds after which that ends in any case.
        :raises AnsibleError: it cannot be reached.
        """
        ...
