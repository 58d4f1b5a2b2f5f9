"""What was done to find a hole, and who else there is."""

from __future__ import annotations

from collections.abc import (
    Mapping,
    Sequence,
)
from dataclasses import dataclass, field
from pathlib import Path

from pytest_carthage.handles.excerpts import listed


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbour:
    """Another live layout."""

    #: name of its environment
    name: str
    #: socket of its fabric
    socket: Path
    addresses: Sequence[str]
    macs: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class SealReport:
    """What was done to find a hole, without finding one."""

    layout: str
    #: protocol to the number of packets that were sent
    probes: Mapping[str, int]
    #: address to what it is, as in ``"this host"``, ``"resolver"``
    destinations: Mapping[str, str]
    #: what was watched to how
    watched: Mapping[str, str]
    #: frames that were looked at
    frames: int
    #: links that sent nothing, as they are down
    silent: tuple[str, ...]
    duration_s: float
    #: machine of which nothing could be seen, to why: it may reach anything
    unobserved: Mapping[str, str] = field(default_factory=dict)

    def __repr__(self) -> str:
        """As in ``<SealReport of Shop: 120 probes to 31 addresses, 99 frames in 1.20 s>``."""
        text = (
            f"<SealReport of {self.layout}: {sum(self.probes.values())} probes to "
            f"{len(self.destinations)} addresses, {self.frames} frames in {self.duration_s:.2f} s"
        )
        for name, machines in (("silent", self.silent), ("not observed", tuple(self.unobserved))):
            text += f", {name}: {listed(machines, most=3)}" if machines else ""
        return f"{text}>"

    def __str__(self) -> str:
        sent = ", ".join(f"{count} {protocol}" for protocol, count in self.probes.items())
        watched = "".join(f"\n  {what}: {how}" for what, how in self.watched.items())
        silent = f"\n  sent nothing: {', '.join(self.silent)}" if self.silent else ""
        rows = (f"{name} ({why})" for name, why in self.unobserved.items())
        unseen = "".join(f"\n  not observed: {row}" for row in rows)
        how_far = ", as far as it was observed" if self.unobserved else ""
        return (
            f"layout {self.layout!r} is sealed{how_far}: {sent or 'nothing'} sent to "
            f"{len(self.destinations)} addresses, {self.frames} frames looked at, "
            f"{self.duration_s:.2f} s{watched}{silent}{unseen}"
        )
