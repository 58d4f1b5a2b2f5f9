"""Roles: what a machine is for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_carthage.access.machine import AsyncMachine

__all__ = ["Role"]


class Role:
    """What a machine is for: packages, forwarding, and a few steps once it is up.

    Subclass it as a frozen dataclass, and override any of the properties with a class attribute,
    a field that has a default, or a property::

        @dataclass(frozen=True, slots=True, kw_only=True)
        class Cache(Role):
            packages = ("redis-server",)
            port: int = 6379

            async def configure(self, machine: AsyncMachine) -> None:
                await machine.run(f"redis-server --daemonize yes --port {self.port}")
    """

    __slots__ = ()

    @property
    def packages(self) -> Sequence[str]:
        """Debian packages that the machine's image gets in addition."""
        return ()

    @property
    def forward(self) -> bool:
        """Whether the machine forwards packets between its links."""
        return False

    @property
    def masquerade(self) -> str | Sequence[str]:
        """Interfaces behind whose address everything that leaves there hides (implies forward)."""
        return ()

    @property
    def groups(self) -> Sequence[str]:
        """Ansible groups that the machine is in."""
        return ()

    async def configure(self, machine: AsyncMachine) -> None:
        """Called once the machine runs, before its ``wait_for`` conditions are waited for."""
