"""What happens while a layout lives, as a stream of small values.

Whoever makes things happen (realisation, stages, providers) calls a :class:`Reporter`;
whoever shows or keeps them (progress, the failure bundle, a test) is one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, Protocol

__all__ = ["Event", "Fanout", "Kind", "Recorder", "Reporter", "Silent"]

#: *start* opens a subject, *done*, *cached* and *failed* close it, *note* tells how far it is
Kind = Literal["start", "done", "cached", "failed", "note"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One thing that happened to one subject of one environment."""

    #: wall-clock time, seconds since the epoch
    at_s: float
    #: name of the environment; empty while there is none yet
    environment: str
    #: a machine's name, or what else is worked on, as in ``"image debian-bookworm"``,
    #: ``"stage imported"``; empty: the environment as a whole
    subject: str
    kind: Kind
    #: a few words, without a newline at its end; may be empty
    text: str = ""
    #: how long the subject took, seconds; only for kinds that close it
    duration_s: float | None = None

    @property
    def closes(self) -> bool:
        """Whether nothing more is to be expected for the subject's current work."""
        return self.kind in ("done", "cached", "failed")


class Reporter(Protocol):
    """Is told what happens, from any thread; must neither block nor raise."""

    def event(self, event: Event, /) -> None:
        """Take in one event."""
        ...


class Silent:
    """Shows nothing."""

    def event(self, event: Event, /) -> None:
        """Forget it."""


class Recorder:
    """Keeps every event, in the order in which they came."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def event(self, event: Event, /) -> None:
        """Append; ``list.append`` is atomic, so that no lock is needed."""
        self.events.append(event)

    def of(self, environment: str) -> list[Event]:
        """Select the events of one environment."""
        return [event for event in tuple(self.events) if event.environment == environment]


class Fanout:
    """Tells several reporters, in their order."""

    def __init__(self, reporters: Iterable[Reporter] = ()) -> None:
        self._reporters = tuple(reporters)

    def event(self, event: Event, /) -> None:
        """Pass it on to everybody."""
        for reporter in self._reporters:
            reporter.event(event)
