"""What one module of Ansible did, as values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_carthage.handles.playbook import Status

__all__ = ["ModuleResult", "ModuleResults"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModuleResult:
    """What a module did on one machine."""

    #: Ansible's name of the machine
    host: str
    status: Status
    #: what the module returned, as ``register`` gives it
    values: Mapping[str, Any]
    #: what it said; for a failure its message and last lines
    message: str
    duration_s: float

    @property
    def changed(self) -> bool:
        """Whether it changed anything."""
        return self.status == "changed"

    @property
    def ok(self) -> bool:
        """Whether it did what it was told."""
        return self.status not in ("failed", "unreachable")

    def __getitem__(self, name: str) -> Any:
        return self.values[name]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModuleResults(Mapping[str, ModuleResult]):
    """What a module did: Ansible's name of each machine to what it did there."""

    module: str
    hosts: Mapping[str, ModuleResult]
    #: hosts of the tree's inventory that the layout does not have, and that were left out
    absent: tuple[str, ...]
    #: everything that Ansible printed
    log: Path
    duration_s: float

    def __getitem__(self, host: str) -> ModuleResult:
        return self.hosts[host]

    def __iter__(self) -> Iterator[str]:
        return iter(self.hosts)

    def __len__(self) -> int:
        return len(self.hosts)

    @property
    def changed(self) -> bool:
        """Whether it changed anything on any machine."""
        return any(result.changed for result in self.hosts.values())

    @property
    def ok(self) -> bool:
        """Whether it did what it was told on every machine."""
        return all(result.ok for result in self.hosts.values())
