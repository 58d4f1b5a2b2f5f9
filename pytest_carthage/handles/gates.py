"""What gates were, and what passed them: as it is told in reports."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

__all__ = ["CUT", "Ending", "GateConnection", "GateRecord"]

#: what ended a gate: the test, its own time limit, or the end of its machine or environment
Ending = Literal["test", "time", "end"]

#: the error of connections that a gate's end has ended
CUT = "cut when the gate closed"


@dataclass(frozen=True, slots=True, kw_only=True)
class GateConnection:
    """One connection that a machine made through a gate."""

    #: UNIX times; None: it has not ended
    began_at: float
    ended_at: float | None
    #: from the machine to the far end, and back
    sent_bytes: int
    received_bytes: int
    #: why there was none, or why it broke; None: it ended well, or goes on
    error: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class GateRecord:
    """What a gate was, and what passed: as it is told in reports."""

    #: counted from 1 within the environment
    number: int
    environment: str
    machine: str
    #: as it was asked for: ``"host:port"``, or the path of a socket
    to: str
    #: where it listens in the machine, ``"127.86.0.1:443"``, or the path
    listens: str
    for_s: float
    #: UNIX times; None: it is open
    opened_at: float
    closed_at: float | None
    closed_by: Ending | None
    connections: tuple[GateConnection, ...]

    @property
    def sent_bytes(self) -> int:
        """From the machine to the far end."""
        return sum(one.sent_bytes for one in self.connections)

    @property
    def received_bytes(self) -> int:
        """From the far end to the machine."""
        return sum(one.received_bytes for one in self.connections)

    @property
    def failed(self) -> int:
        """How many connections were refused or broke; that one was cut is no failure."""
        return sum(one.error not in (None, CUT) for one in self.connections)

    @property
    def totals(self) -> dict[str, Any]:
        """The record in plain values, each connection merely counted."""
        values = {one.name: getattr(self, one.name) for one in fields(self)}
        return {
            **values,
            "connections": len(self.connections),
            "sent_bytes": self.sent_bytes,
            "received_bytes": self.received_bytes,
            "failed": self.failed,
        }

    def as_json(self) -> dict[str, Any]:
        """The whole record in plain values."""
        return {**self.totals, "connections": [asdict(one) for one in self.connections]}
