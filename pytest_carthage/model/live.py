"""What a layout's instance asks of the environment that it stands for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from pytest_carthage.access.capture import AsyncCapture, Capture
    from pytest_carthage.access.disturbance import AsyncDisturbance, Disturbance, Group
    from pytest_carthage.access.gate import AsyncGate, Gate
    from pytest_carthage.access.handle import MachineHandle
    from pytest_carthage.access.inside import Inside
    from pytest_carthage.access.machine import AsyncMachine
    from pytest_carthage.access.sealing import SealReport
    from pytest_carthage.access.span import AsyncSpan, Span
    from pytest_carthage.model.machine import Machine
    from pytest_carthage.planning.plan import Plan
    from pytest_carthage.portal import Opening, Portal

__all__ = ["LiveEnvironment", "LiveEnvironmentAio"]


class LiveEnvironmentAio(Protocol):
    """What the async view of a live layout asks of its environment."""

    #: the event loop that everything happens on
    portal: Portal

    def handle(self, name: str) -> AsyncMachine:
        """The handle of a machine, or KeyError."""
        ...

    def handles(self) -> Sequence[AsyncMachine]:
        """The handles of all machines."""
        ...

    async def add(self, name: str, machine: Machine) -> AsyncMachine:
        """Build one more machine."""
        ...

    async def remove(self, name: str) -> None:
        """Destroy a machine."""
        ...

    async def ansible(self, playbook: str | Path, **options: Any) -> Any:
        """Run a playbook."""
        ...

    @property
    def gates(self) -> Sequence[AsyncGate]:
        """Every gate that was opened."""
        ...

    def partition(self, *groups: Group) -> Opening[AsyncDisturbance]:
        """Cut machines off from each other."""
        ...

    def gate(self, machine: str, *, to: str, for_s: float) -> Opening[AsyncGate]:
        """Open a gate."""
        ...

    def capture(self, network: str, filter: str = "") -> Opening[AsyncCapture]:
        """Capture packets of a network."""
        ...

    async def assert_sealed(self, *, timeout_s: float = 30.0) -> SealReport:
        """Prove that it is sealed."""
        ...

    def span(self, other: Any, network: str) -> Opening[AsyncSpan]:
        """Join a network with another environment's."""
        ...


class LiveEnvironment(Protocol):
    """What a live layout asks of its environment."""

    @property
    def name(self) -> str:
        """Name of the environment."""
        ...

    @property
    def folder(self) -> Path:
        """Its private folder."""
        ...

    @property
    def plan(self) -> Plan:
        """What is planned by now."""
        ...

    @property
    def aio(self) -> LiveEnvironmentAio:
        """The same, to be awaited."""
        ...

    def handle(self, name: str) -> MachineHandle:
        """The handle of a machine, or KeyError."""
        ...

    def handles(self) -> Sequence[MachineHandle]:
        """The handles of all machines."""
        ...

    def add(self, name: str, machine: Machine) -> MachineHandle:
        """Build one more machine."""
        ...

    def remove(self, name: str) -> None:
        """Destroy a machine."""
        ...

    def ansible(self, playbook: str | Path, **options: Any) -> Any:
        """Run a playbook."""
        ...

    def assert_sealed(self, *, timeout_s: float = 30.0) -> SealReport:
        """Prove that it is sealed."""
        ...

    def partition(self, *groups: Group) -> Disturbance:
        """Cut machines off from each other."""
        ...

    def gate(self, machine: str, *, to: str, for_s: float) -> Gate:
        """Open a gate, as long as the block runs."""
        ...

    def capture(self, network: str, filter: str = "") -> Capture:
        """Capture packets of a network, as long as the block runs."""
        ...

    def inside(self, network: str) -> Inside:
        """Take this thread into a network, as long as the block runs."""
        ...

    def span(self, other: Any, network: str) -> Span:
        """Join a network with another environment's."""
        ...
