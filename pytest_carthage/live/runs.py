"""What a live layout asks of the run that it is of: promises that a pretended run keeps, too.

The real one is :class:`pytest_carthage.state.run.Run`, whose supervisor destroys what is left.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from pytest_carthage.handles.channel import Channel
from pytest_carthage.provider import Identity

__all__ = [
    "Describes",
    "Fabric",
    "HasIdentity",
    "HoldsEnvironments",
    "Journals",
    "Run",
    "StartsDeputies",
]


class Fabric(Channel, Protocol):
    """The connection to an environment's fabric, and its end."""

    def close(self) -> None:
        """Close it; nothing more can be asked."""
        ...


class HasIdentity(Protocol):
    """A run, as it is told from others."""

    @property
    def id(self) -> str:
        """Its identity, which no other run has, on this host or another."""
        ...


class Journals(HasIdentity, Protocol):
    """Who writes down what exists, before it does."""

    async def intend(self, identity: Identity) -> None:
        """Write down what is about to exist; returns when it is on disk."""
        ...

    async def destroyed(self, identity: Identity) -> None:
        """Write down that something is gone."""
        ...


class StartsDeputies(HasIdentity, Protocol):
    """Who starts processes outside of the fabric, which end with their environment."""

    async def deputy(
        self,
        environment: str,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        log: Path,
        control: int,
    ) -> None:
        """Start one that answers for a machine.

        :param control: descriptor that brings its clients; the process gets a copy.
        """
        ...


class Describes(Protocol):
    """Who says to other processes what an environment is like."""

    async def describe(self, environment: str, description: Mapping[str, object]) -> None:
        """Say what an environment is like by now."""
        ...


class HoldsEnvironments(Describes, Protocol):
    """Who begins environments, and ends them or keeps them."""

    async def environment(
        self, name: str, description: Mapping[str, object], *, unprivileged: bool
    ) -> tuple[Path, Fabric]:
        """Begin an environment; returns its private folder and the connection to its fabric."""
        ...

    async def keep(self, environment: str, *, for_s: float | None) -> None:
        """Have an environment outlive this process."""
        ...

    async def destroy(self, environment: str) -> None:
        """Destroy an environment; one that is gone is not an error."""
        ...


class Run(HoldsEnvironments, Journals, StartsDeputies, Protocol):
    """All of them, for who needs each."""
