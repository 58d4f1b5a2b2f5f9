"""The seam between a plan and the world: what a provider promises.

A provider turns one planned machine into a live one. It has five members; everything
else is a capability of the machine's *means* (what it hands to the layout's handle).
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, Protocol, cast, runtime_checkable

from pytest_carthage.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from pathlib import Path

    from pytest_carthage.model.image import Image, ImageConfig
    from pytest_carthage.planning.plan import Plan, PlannedMachine

__all__ = [
    "BuiltImage",
    "Channel",
    "Context",
    "Identity",
    "Logs",
    "Means",
    "Powered",
    "Problem",
    "Provider",
    "StartsFromImages",
    "load_providers",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What is needed to destroy a resource, and nothing more: survives in the journal."""

    #: kind of the provider that owns it
    kind: str
    run: str
    environment: str
    #: unique within the environment, as in a machine's name
    name: str
    #: provider's own text values, as in ``{"id": "3f2a..."}``
    detail: tuple[tuple[str, str], ...] = ()


class Channel(Protocol):
    """A connection to an agent, or to the fabric's init process: one question, one answer.

    The operations and their fields are listed in ``pytest_carthage.fabric.wire``.
    """

    async def request(
        self, op: str, /, *, fds: Sequence[int] = (), **fields: object
    ) -> tuple[dict[str, Any], list[int]]:
        """Ask; returns the reply and the descriptors that came with it (the caller closes them).

        :raises FabricError: refused, with the reason; or the other end is gone.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What a provider is given to create one machine."""

    run: str
    environment: str
    plan: Plan
    #: the environment's fabric
    fabric: Channel
    #: gives a planned machine its network in the fabric, with all its links: of kind
    #: "process" it is also the whole machine, of kind "namespace" an empty network namespace
    #: for somebody to live in. Returns ``pid`` and ``netns``, a path that holds in the fabric.
    #: What is asked for in one turn of the event loop is made in one batch.
    place: Callable[[PlannedMachine, str], Awaitable[Mapping[str, Any]]]
    #: opens a channel to the agent of a machine of the fabric
    channel: Callable[[str], Awaitable[Channel]]
    #: private folder of the environment, removed with it
    folder: Path
    #: folder for the machine's logs
    logs: Path
    #: writes an identity to the journal *before* the thing exists; returns when it is on disk
    intend: Callable[[Identity], Awaitable[None]]
    #: tells a person how far things are, as in ``note("web", "starting")``
    note: Callable[[str, str], None]


@runtime_checkable
class Means(Protocol):
    """What a created machine is operated by: the least that every provider gives."""

    identity: Identity
    #: open connection to the machine's agent
    channel: Channel


@runtime_checkable
class Powered(Protocol):
    """Can be switched off and on again, keeping its disk and its links."""

    async def start(self) -> None:
        """Switch on; return when its agent answers."""
        ...

    async def stop(self, *, timeout_s: float = 10.0) -> None:
        """Switch off in good order, or by force after the time."""
        ...


@runtime_checkable
class Logs(Protocol):
    """Keeps what the machine's main process and init printed."""

    async def logs(self) -> str:
        """All that was printed so far."""
        ...


class Provider(Protocol):
    """Turns planned machines of one target into live ones."""

    #: the target's name: netns, podman, ...
    kind: str

    def check(self, plan: Plan | None = None) -> Sequence[Problem]:
        """List what this host lacks (for this plan), without side effects."""
        ...

    async def create(self, planned: PlannedMachine, context: Context) -> Means:
        """Create one machine; return when its agent answers.

        :raises CreationError: with the last observation.
        """
        ...

    async def destroy(self, identity: Identity) -> None:
        """Destroy from identity alone; nothing to do is not an error."""
        ...

    async def leftovers(self, run: str) -> Sequence[Identity]:
        """What still exists of a run."""
        ...


class BuiltImage(Protocol):
    """An image that exists, see :class:`pytest_carthage.images.store.Built`."""

    @property
    def image(self) -> Image:
        """Its declaration."""
        ...

    @property
    def lower(self) -> Sequence[Path]:
        """Folders of its layers as overlayfs takes them: the top first."""
        ...

    @property
    def config(self) -> ImageConfig:
        """What it says beside its files."""
        ...


@runtime_checkable
class StartsFromImages(Protocol):
    """A provider whose machines start from images."""

    async def take_image(self, built: BuiltImage) -> None:
        """Take an image to start machines from, before the first of them is created.

        :raises BuildError: it cannot be used here.
        """
        ...


def load_providers() -> Mapping[str, Callable[[], Provider]]:
    """Targets that installed distributions offer: target to what makes its provider.

    They are entry points of the group ``pytest_carthage.providers``; the built-in ones, too.
    """
    return {
        entry.name: cast("Callable[[], Provider]", lambda entry=entry: entry.load()())
        for entry in entry_points(group="pytest_carthage.providers")
    }
