"""What happens while a layout lives, as a stream of small values.

Whoever makes things happen (realisation, stages, providers) calls a :class:`Reporter`;
whoever shows or keeps them (progress, the failure bundle, a test) is one.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Protocol

from pytest_carthage import clock
from pytest_carthage.handles.kept import Kept

__all__ = ["Event", "Fanout", "Kind", "Recorder", "Reporter", "Silent", "Work"]

#: *start* opens a subject, *done*, *cached* and *failed* close it, *note* says how far it is
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
    #: node id of the test that was running; told by who shows it, empty: none was
    test: str = ""

    @property
    def closes(self) -> bool:
        """Whether nothing more is to be expected for the subject's current work."""
        return self.kind in ("done", "cached", "failed")

    @property
    def is_milestone(self) -> bool:
        """Whether a reader wants to know it later, too: an environment or a stage is done, or
        anything has failed.
        """
        return self.closes and (
            not self.subject or self.subject.startswith("stage ") or self.kind == "failed"
        )


class Reporter(Protocol):
    """Takes in events, from any thread; must neither block nor raise."""

    def event(self, event: Event, /) -> None:
        """Take in one event."""
        ...


class Silent:
    """Shows nothing."""

    def event(self, event: Event, /) -> None:
        """Forget it."""


#: events of a run that are kept: the first, and the last
_HEAD, _TAIL = 20_000, 80_000


class Recorder:
    """Keeps events, in the order in which they came: of very many the first and the last."""

    def __init__(self) -> None:
        self.events: Kept[Event] = Kept(head=_HEAD, tail=_TAIL)
        self._lock = threading.Lock()

    def event(self, event: Event, /) -> None:
        """Append; any thread may."""
        with self._lock:
            self.events.append(event)

    def of(self, environment: str) -> list[Event]:
        """Select the events of one environment."""
        return [event for event in tuple(self.events) if event.environment == environment]


class Fanout:
    """Passes events to several reporters, in their order."""

    def __init__(self, reporters: Iterable[Reporter] = ()) -> None:
        self._reporters = tuple(reporters)

    def event(self, event: Event, /) -> None:
        """Pass it on to everybody."""
        for reporter in self._reporters:
            reporter.event(event)


class Work:
    """One subject that is worked on, as a source of events.

    Its time begins when it is made, and again with every :meth:`start`.

    :param environment: name of the environment that it is part of; empty: of none.
    """

    def __init__(self, reporter: Reporter, subject: str, *, environment: str = "") -> None:
        self._reporter = reporter
        self._subject = subject
        self._environment = environment
        self._began = clock.monotonic_s()

    def start(self, text: str = "") -> None:
        """It begins."""
        self._began = clock.monotonic_s()
        self._send("start", text)

    def note(self, text: str) -> None:
        """It is at this point."""
        self._send("note", text)

    def done(self, text: str = "") -> None:
        """It has ended well."""
        self._send("done", text, clock.monotonic_s() - self._began)

    def cached(self, text: str = "") -> None:
        """It was done before."""
        self._send("cached", text, clock.monotonic_s() - self._began)

    def failed(self, text: str) -> None:
        """It has failed; in a few words why."""
        self._send("failed", text, clock.monotonic_s() - self._began)

    def __enter__(self) -> Work:
        """It begins with the block."""
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """It ends with the block, well or badly."""
        if error is None:
            self.done()
        else:
            self.failed(str(error).strip().partition("\n")[0] or type(error).__name__)

    def _send(self, kind: Kind, text: str, duration_s: float | None = None) -> None:
        self._reporter.event(
            Event(
                at_s=clock.unix_s(),
                environment=self._environment,
                subject=self._subject,
                kind=kind,
                text=text,
                duration_s=duration_s,
            )
        )
