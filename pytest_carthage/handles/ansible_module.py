"""What one module of Ansible did, as values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_carthage.handles.excerpts import ending, listed

if TYPE_CHECKING:
    from pytest_carthage.handles.playbook import Status

__all__ = ["ModuleResult", "ModuleResults"]

#: in a representation: characters of what a module said, and names
_MESSAGE, _MOST_NAMED = 80, 5


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
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

    def __repr__(self) -> str:
        """As in ``<ModuleResult of web1: failed, 'no such file', with changed, msg>``."""
        said = f", {ending(self.message, _MESSAGE)}" if self.message else ""
        names = listed(sorted(self.values), most=_MOST_NAMED)
        return f"<ModuleResult of {self.host}: {self.status}{said}{names and f', with {names}'}>"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
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

    def __repr__(self) -> str:
        """As in ``ping: 2 ok, 1 failed: db``."""
        numbers = Counter(result.status for result in self.hosts.values())
        words = [f"{number} {status}" for status, number in sorted(numbers.items())]
        named = [host for host, result in self.hosts.items() if not result.ok] or [
            host for host, result in self.hosts.items() if result.changed
        ]
        text = f"{self.module}: {', '.join(words) or 'no machine'}"
        return f"{text}: {listed(named, most=_MOST_NAMED)}" if named else text
