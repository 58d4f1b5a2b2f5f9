"""How far everything is, from the events so far."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pytest_carthage.events import Event, Kind

__all__ = ["Board", "Row"]


@dataclass(slots=True, kw_only=True)
class Row:
    """One subject as it stands now."""

    environment: str
    subject: str
    kind: Kind
    text: str
    #: wall-clock time of its last start, seconds since the epoch
    began_s: float
    duration_s: float | None = None
    #: node id of the test that it happens in; empty: in none
    test: str = ""

    @property
    def active(self) -> bool:
        """Whether more is to be expected."""
        return self.kind in ("start", "note")


class Board:
    """The state of every subject, from the events so far."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, str], Row] = {}

    def event(self, event: Event, /) -> None:
        """Take it in."""
        key = event.environment, event.subject
        row = self.rows.get(key)
        if row is None or (event.kind == "start" and not row.active):
            self.rows.pop(key, None)
            self.rows[key] = row = Row(
                environment=event.environment,
                subject=event.subject,
                kind=event.kind,
                text=event.text,
                began_s=event.at_s,
                test=event.test,
            )
        elif event.kind == "note" and not row.active:
            return  # an afterthought does not reopen what is done
        row.kind = event.kind
        row.text = event.text
        if event.closes:
            row.duration_s = event.duration_s
            if row.duration_s is None:
                row.duration_s = event.at_s - row.began_s
            if not event.subject:
                self._end(event.environment)

    def _end(self, environment: str) -> None:
        """Nobody works on parts of an environment that is there, or gone."""
        self.rows = {
            key: row
            for key, row in self.rows.items()
            if row.environment != environment or not row.active
        }

    @property
    def busy_since_s(self) -> float | None:
        """Wall-clock time since which something is worked on; None: nothing is.

        A gate that is open waits for nothing.
        """
        began = [
            row.began_s
            for row in self.rows.values()
            if row.active and not row.subject.startswith("gate ")
        ]
        return min(began, default=None)

    def rest(self) -> None:
        """Forget what has ended: what is worked on next has a board of its own."""
        self.rows = {key: row for key, row in self.rows.items() if row.active}

    def shown(self, most: int) -> Iterator[Row]:
        """Rows to show in at most ``most`` lines: what is active or failed goes first."""
        rows = list(self.rows.values())
        if len(rows) > most:
            wanted = [row for row in rows if row.active or row.kind == "failed"][:most]
            rest = [row for row in rows if row not in wanted]
            spare = most - len(wanted)
            wanted += rest[len(rest) - spare :] if spare else []
            rows = [row for row in rows if row in wanted]
        yield from rows

    def count(self, kind: Kind) -> int:
        """Number of subjects in a state."""
        return sum(row.kind == kind for row in self.rows.values())
