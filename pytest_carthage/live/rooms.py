"""The rooms of one live layout, each with what was opened there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pytest_carthage.live.faults.registry import Faults
from pytest_carthage.live.openings.control import Control
from pytest_carthage.live.openings.gate import Gates
from pytest_carthage.live.openings.span import Site
from pytest_carthage.live.openings.station import Stations
from pytest_carthage.live.packets.captures import Captures
from pytest_carthage.live.surroundings import Knows, Reaches, Surroundings, Tells
from pytest_carthage.portal import Portal
from pytest_carthage.work.ansible.plays import Plays

__all__ = ["Rooms"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rooms:
    """What a live layout's operations are carried out in."""

    tells: Tells
    knows: Knows[Any]
    reaches: Reaches
    faults: Faults
    gates: Gates
    stations: Stations
    control: Control
    captures: Captures
    site: Site
    plays: Plays

    @classmethod
    def of(cls, environment: Surroundings[Any]) -> Rooms:
        """Those of a new environment."""
        tells: Tells = environment
        knows: Knows[Any] = environment
        reaches: Reaches = environment
        gates = Gates(tells=tells, knows=knows, reaches=reaches)
        return cls(
            tells=tells,
            knows=knows,
            reaches=reaches,
            faults=Faults(tells=tells, knows=knows, reaches=reaches),
            gates=gates,
            stations=Stations(knows=knows, reaches=reaches),
            control=Control(tells=tells, knows=knows, reaches=reaches, gates=gates),
            captures=Captures(knows=knows, reaches=reaches),
            site=Site(tells=tells, knows=knows, reaches=reaches),
            plays=Plays(),
        )

    @property
    def portal(self) -> Portal:
        """The event loop that everything happens on."""
        return self.reaches.portal
