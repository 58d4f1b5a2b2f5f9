"""What roles ask of a live machine that they serve; its handle, for coroutines, has more."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from pytest_carthage.handles.result import Result
from pytest_carthage.model.machine import Condition
from pytest_carthage.planning.plan import Plan, PlannedMachine

__all__ = ["Around", "Files", "Served"]


class Files(Protocol):
    """Files, of a machine or of an image that is being built, and commands among them."""

    async def run(
        self,
        command: str | Sequence[str | os.PathLike[str]],
        *,
        user: str | None = None,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        input: str | bytes | None = None,
        timeout_s: float | None = 300.0,
        check: bool = True,
        secret: bool = False,
    ) -> Result:
        """Run a command and wait for its end."""
        ...

    async def read_text(self, path: str) -> str:
        """Read a text file (UTF-8)."""
        ...

    async def write_text(
        self, path: str, text: str, *, mode: int | None = None, user: str | None = None
    ) -> None:
        """Write a text file (UTF-8) in place of what is there."""
        ...

    async def put(
        self,
        source: str | Path,
        target: str,
        *,
        mode: int | None = None,
        user: str | None = None,
    ) -> None:
        """Copy a file or a folder from the host."""
        ...

    async def get(self, source: str, target: str | Path) -> Path:
        """Copy a file to the host."""
        ...

    async def exists(self, path: str) -> bool:
        """Whether there is such a file or folder."""
        ...


class Around(Protocol):
    """The live layout that a machine is in."""

    @property
    def plan(self) -> Plan:
        """What is planned by now."""
        ...

    @property
    def folder(self) -> Path:
        """Its private folder."""
        ...

    def handle(self, name: str) -> Served:
        """Another machine of it, or KeyError."""
        ...


class Served(Files, Protocol):
    """A live machine."""

    @property
    def name(self) -> str:
        """What people call it."""
        ...

    @property
    def planned(self) -> PlannedMachine:
        """The declaration with everything decided."""
        ...

    @property
    def surroundings(self) -> Around:
        """The live layout that it is in."""
        ...

    @property
    def addresses(self) -> Mapping[str, str]:
        """Interface name to address, without the prefix length."""
        ...

    def address(self, network: str | None = None) -> str:
        """Its address in a network; the first that it has where none is named."""
        ...

    @property
    def links(self) -> Iterable[str]:
        """Names of its interfaces, each with a live link."""
        ...

    async def wait_for(self, condition: Condition, *, timeout_s: float = 60.0) -> None:
        """Wait until a condition holds."""
        ...
