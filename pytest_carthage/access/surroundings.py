"""What a live machine or link may ask of the environment that it is in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from pytest_carthage.access.capture import AsyncCapture
    from pytest_carthage.access.disturbance import AsyncDisturbance
    from pytest_carthage.access.gate import AsyncGate
    from pytest_carthage.access.inside import Station
    from pytest_carthage.access.machine import AsyncMachine
    from pytest_carthage.access.resolved import Resolutions
    from pytest_carthage.access.sealing import Neighbour
    from pytest_carthage.access.welcome import Welcome
    from pytest_carthage.images.policy import Policy
    from pytest_carthage.planning.plan import Plan, PlannedMachine
    from pytest_carthage.portal import Portal
    from pytest_carthage.provider import Channel
    from pytest_carthage.report.events import Kind

__all__ = ["Surroundings"]


class Surroundings(Protocol):
    """A live environment, seen from inside; the operations that span machines take it, too."""

    #: name of the environment
    name: str
    #: everything that is planned by now
    plan: Plan
    #: the event loop that everything happens on
    portal: Portal
    #: private folder of the environment, removed with it
    folder: Path
    #: folder for logs
    logs: Path
    #: gates that were ever opened, in their order; the end of the environment closes them
    gates: list[AsyncGate]
    #: places on networks for programs of the host, by network
    stations: dict[str, Station]
    #: captures that are running; the end of the environment ends them
    captures: list[AsyncCapture]
    #: what this run lets be fetched
    policy: Policy
    #: has roles of machines meet the other machines
    welcome: Welcome
    #: whether it has ended
    closed: bool
    #: faults that were ever begun, in their order
    disturbances: list[AsyncDisturbance]

    #: tells who wants to know what has become known of the links
    resolutions: Resolutions

    @property
    def fabric(self) -> Channel:
        """Connection to the environment's fabric."""
        ...

    def handle(self, name: str) -> AsyncMachine:
        """The live machine of this name, or KeyError."""
        ...

    def handles(self) -> Sequence[AsyncMachine]:
        """All live machines."""
        ...

    async def place(self, planned: PlannedMachine, kind: str) -> Mapping[str, Any]:
        """Have the fabric make what is planned, see :class:`~pytest_carthage.provider.Context`."""
        ...

    async def neighbours(self) -> Sequence[Neighbour]:
        """All other live environments of this user."""
        ...

    def tell(self, subject: str, kind: Kind, text: str = "", begin: float | None = None) -> None:
        """Tell whoever watches, and the record; ``begin`` (monotonic) gives the duration."""
        ...
