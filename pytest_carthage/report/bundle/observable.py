"""What has to be asked of live things to write a bundle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from pytest_carthage.handles.capability import Capability
    from pytest_carthage.handles.gates import GateRecord
    from pytest_carthage.handles.kept import Kept
    from pytest_carthage.handles.printed import Printed
    from pytest_carthage.handles.result import Result
    from pytest_carthage.planning.plan import Plan
    from pytest_carthage.provider import Channel

__all__ = ["Fault", "Observable", "ObservableMachine", "Recording", "Slice"]


class ObservableMachine(Protocol):
    """A machine that can be looked at while it lives."""

    @property
    def name(self) -> str:
        """Its name."""
        ...

    @property
    def channel(self) -> Channel:
        """The way to its agent."""
        ...

    @property
    def commands(self) -> Kept[Result]:
        """Commands that tests ran in it."""
        ...

    async def printed(self, since: int = 0) -> Printed:
        """What its main process has printed from a byte of its log on."""
        ...

    def can(self, capability: Capability) -> bool:
        """Whether it can be asked for this."""
        ...

    async def screenshot(self) -> bytes:
        """What is on its screen: a PNG file."""
        ...

    async def observe(self) -> Mapping[str, Any]:
        """Its addresses, routes, listening sockets and processes."""
        ...


class Slice(Protocol):
    """What a recording gave of one network."""

    @property
    def network(self) -> str:
        """Its name."""
        ...

    @property
    def packets(self) -> int:
        """How many there are."""
        ...

    @property
    def lost(self) -> str:
        """What is not there, and why; empty: all is there."""
        ...


class Recording(Protocol):
    """Packets that were recorded."""

    async def write(self, path: Path, *, since_s: float, until_s: float | None) -> Sequence[Slice]:
        """Write those of a span of UNIX times to a file."""
        ...


class Fault(Protocol):
    """A fault that was in force, or is."""

    @property
    def healed_s(self) -> float | None:
        """UNIX time of its end; None: it is in force."""
        ...

    def record(self) -> Mapping[str, Any]:
        """What it was, in plain values."""
        ...


class Eventful(Protocol):
    """Where things were opened, recorded and disturbed."""

    @property
    def gates(self) -> Sequence[GateRecord]:
        """Records of all that were opened: who, to where, when, and what passed."""
        ...

    @property
    def recording(self) -> Recording | None:
        """None: nothing is recorded."""
        ...

    @property
    def disturbances(self) -> Sequence[Fault]:
        """All that there were."""
        ...


class Observable(Eventful, Protocol):
    """An environment that can be looked at while it lives."""

    @property
    def name(self) -> str:
        """Its name."""
        ...

    @property
    def plan(self) -> Plan:
        """What was to be built."""
        ...

    @property
    def logs(self) -> Path:
        """Folder of what its machines print."""
        ...

    def handles(self) -> Sequence[ObservableMachine]:
        """The machines that are ready."""
        ...

    async def circumstances(self, since_s: float) -> Sequence[str]:
        """What went on since a UNIX time that may be why something has failed."""
        ...
