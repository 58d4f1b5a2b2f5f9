"""What gates were, and what passed them: as it is told in reports."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from pytest_carthage.handles.excerpts import ending

__all__ = ["CUT", "Ending", "GateConnection", "GateRecord", "GateTotals"]

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

    @property
    def has_failed(self) -> bool:
        """Whether it was refused or broke; that it was cut is no failure."""
        return self.error not in (None, CUT)


@dataclass(frozen=True, slots=True, kw_only=True)
class GateTotals:
    """Connections that are only counted."""

    connections: int = 0
    sent_bytes: int = 0
    received_bytes: int = 0
    failed: int = 0

    def plus(self, connection: GateConnection) -> GateTotals:
        """With one more of them."""
        return GateTotals(
            connections=self.connections + 1,
            sent_bytes=self.sent_bytes + connection.sent_bytes,
            received_bytes=self.received_bytes + connection.received_bytes,
            failed=self.failed + connection.has_failed,
        )


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
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
    #: those that go on, and the last 1,000 that have ended
    connections: tuple[GateConnection, ...]
    #: those that have ended before
    earlier: GateTotals = GateTotals()

    @property
    def count(self) -> int:
        """How many connections there were."""
        return self.earlier.connections + len(self.connections)

    @property
    def sent_bytes(self) -> int:
        """From the machine to the far end."""
        return self.earlier.sent_bytes + sum(one.sent_bytes for one in self.connections)

    @property
    def received_bytes(self) -> int:
        """From the far end to the machine."""
        return self.earlier.received_bytes + sum(one.received_bytes for one in self.connections)

    @property
    def failed(self) -> int:
        """How many connections were refused or broke; that one was cut is no failure."""
        return self.earlier.failed + sum(one.has_failed for one in self.connections)

    @property
    def totals(self) -> dict[str, Any]:
        """The record in plain values, each connection merely counted."""
        values = {one.name: getattr(self, one.name) for one in fields(self)}
        del values["earlier"]
        return {
            **values,
            "connections": self.count,
            "sent_bytes": self.sent_bytes,
            "received_bytes": self.received_bytes,
            "failed": self.failed,
        }

    def __repr__(self) -> str:
        """As in ``<gate web to db:5432, closed: 2 connections, 300 bytes out, 7000 in>``."""
        state = "open" if self.closed_at is None else "closed"
        number = self.earlier.connections + len(self.connections)
        text = (
            f"<gate {self.machine} to {self.to}, {state}: {number} "
            f"connection{'' if number == 1 else 's'}, {self.sent_bytes} bytes out, "
            f"{self.received_bytes} in"
        )
        if not self.failed:
            return f"{text}>"
        errors = {each.error for each in self.connections if each.has_failed}
        return f"{text}, {self.failed} failed: {ending(', '.join(sorted(map(str, errors))), 80)}>"

    def as_json(self) -> dict[str, Any]:
        """The whole record in plain values; ``left_out`` counts connections that are not there."""
        return {
            **self.totals,
            "connections": [asdict(one) for one in self.connections],
            **({"left_out": self.earlier.connections} if self.earlier.connections else {}),
        }
