"""Roles: what a machine is for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_carthage.access.machine import AsyncMachine
    from pytest_carthage.model.machine import Forward

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
    def programs(self) -> Mapping[str, str]:
        """Programs of the host that it needs where the machine's root is the host's: to package."""
        return MappingProxyType({})

    @property
    def serves_dhcp(self) -> bool:
        """Whether it serves DHCP: machines that ask on its networks are made after it."""
        return False

    @property
    def forward(self) -> bool:
        """Whether the machine forwards packets between its links."""
        return False

    @property
    def masquerade(self) -> str | Sequence[str]:
        """Interfaces behind whose address everything that leaves there hides (implies forward)."""
        return ()

    @property
    def forwards(self) -> Sequence[Forward]:
        """Ports of the machine that lead to other machines (implies forward)."""
        return ()

    @property
    def groups(self) -> Sequence[str]:
        """Ansible groups that the machine is in."""
        return ()

    async def configure(self, machine: AsyncMachine) -> None:
        """Called once the machine runs, before its ``wait_for`` conditions are waited for."""

    async def refresh(self, machine: AsyncMachine) -> None:
        """Called when machines joined or left, and when this one was started again."""
