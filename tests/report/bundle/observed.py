"""An environment that can be looked at, without anything that lives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pytest_carthage import Layout, Machine, Network
from pytest_carthage.errors import FabricError
from pytest_carthage.handles.capability import Capability
from pytest_carthage.handles.kept import Kept
from pytest_carthage.handles.printed import Printed
from pytest_carthage.handles.result import Result
from pytest_carthage.planning import make_plan


class Shop(Layout):
    lan = Network("10.0.0.0/24")
    web = Machine(links={"eth0": lan.at(".1")})
    db = Machine(links={"eth0": lan.at(".2")})


class Channel:
    """Refuses whatever is asked."""

    async def request(
        self, op: str, /, *, fds: Sequence[int] = (), **fields: object
    ) -> tuple[dict[str, Any], list[int]]:
        raise FabricError(f"no {op} here")


@dataclass
class ObservedMachine:
    name: str
    commands: Kept[Result] = field(default_factory=lambda: Kept(head=9, tail=9))
    log: str = "started\n"
    tables: Mapping[str, Any] = field(default_factory=dict)
    #: raised by whatever is asked of it
    error: Exception | None = None
    channel: Channel = field(default_factory=Channel)
    #: a picture of its screen; None: it has none
    screen: bytes | None = None

    async def printed(self, since: int = 0) -> Printed:
        if self.error is not None:
            raise self.error
        return Printed(text=self.log[since:], before=since)

    def can(self, capability: Capability) -> bool:
        return capability != "screen" or self.screen is not None

    async def screenshot(self) -> bytes:
        assert self.screen is not None
        if self.error is not None:
            raise self.error
        return self.screen

    async def observe(self) -> Mapping[str, Any]:
        if self.error is not None:
            raise self.error
        return self.tables


@dataclass
class Slice:
    network: str
    packets: int
    lost: str = ""


class Recording:
    """Writes the span that it was asked for."""

    def __init__(self, *slices: Slice) -> None:
        self._slices = slices

    async def write(self, path: Path, *, since_s: float, until_s: float | None) -> Sequence[Slice]:
        if not self._slices:
            raise OSError("no space left on device")
        path.write_text(f"{since_s:g} to {until_s}")  # noqa: ASYNC240  nothing else runs
        return self._slices


@dataclass
class Fault:
    subject: str
    healed_s: float | None = None

    def record(self) -> Mapping[str, Any]:
        return {"subject": self.subject, "healed_s": self.healed_s}


class Gate:
    """The record of a gate."""

    def as_json(self) -> dict[str, Any]:
        return {"machine": "web", "to": "db.example:5432"}


class Observed:
    """The layout ``Shop``, of which these machines are ready."""

    def __init__(self, logs: Path, *machines: ObservedMachine) -> None:
        self.name = "run-shop"
        self.plan = make_plan(Shop)
        self.logs = logs
        self.gates: list[Any] = []
        self.recording: Recording | None = None
        self.disturbances: list[Fault] = []
        self.meanwhile: Sequence[str] | Exception = ()
        self._machines = machines

    async def circumstances(self, since_s: float) -> Sequence[str]:
        if isinstance(self.meanwhile, Exception):
            raise self.meanwhile
        return self.meanwhile

    def handles(self) -> Sequence[ObservedMachine]:
        return self._machines
