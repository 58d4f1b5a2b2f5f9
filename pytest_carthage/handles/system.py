"""What packages, units and playbooks are applied to: a file system with a way to run commands."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from pytest_carthage.handles.result import Result

__all__ = ["Runs", "System"]


class Runs(Protocol):
    """Runs commands to their end."""

    @property
    def who(self) -> str:
        """How messages about it begin."""
        ...

    async def run(
        self,
        command: str | Sequence[str | os.PathLike[str]],
        *,
        env: Mapping[str, str] | None = None,
        timeout_s: float | None = 300.0,
        check: bool = True,
    ) -> Result:
        """Run a command and wait for its end.

        :raises CommandError: its exit status is not 0.
        """
        ...

    async def exists(self, path: str) -> bool:
        """Whether there is such a file or folder."""
        ...


class System(Runs, Protocol):
    """Runs commands among files that can be read and brought."""

    async def read_text(self, path: str) -> str:
        """Read a text file (UTF-8).

        :raises FileNotFoundError: it is not there.
        """
        ...

    async def bring(self, source: Path, target: str, *, mode: int) -> None:
        """Copy one file of the host into a folder that is there."""
        ...
