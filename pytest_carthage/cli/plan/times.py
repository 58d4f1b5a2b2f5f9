"""How long what is to do is likely to take."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from pytest_carthage.report.times import seconds

__all__ = ["Expected", "about", "columns"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """A sum of times of which some may not be known."""

    seconds: float = 0.0
    #: of how many things no time is known
    unknown: int = 0

    @classmethod
    def of(cls, times: Iterable[float | None]) -> Expected:
        """What is done one after the other; None: it was never timed."""
        every = list(times)
        return cls(
            seconds=sum(time_s for time_s in every if time_s is not None),
            unknown=every.count(None),
        )

    @classmethod
    def longest(cls, parts: Iterable[Expected]) -> Expected:
        """What is done at once."""
        every = list(parts)
        return cls(
            seconds=max((part.seconds for part in every), default=0.0),
            unknown=sum(part.unknown for part in every),
        )

    @classmethod
    def whole(cls, parts: Iterable[Expected]) -> Expected:
        """Parts of which one begins when the one before has ended."""
        every = list(parts)
        return cls(
            seconds=sum(part.seconds for part in every),
            unknown=sum(part.unknown for part in every),
        )

    def __str__(self) -> str:
        text = seconds(self.seconds) if self.seconds or not self.unknown else ""
        more = f"{self.unknown} never timed" if self.unknown else ""
        return ", and ".join(part for part in (text, more) if part)


def about(expected_s: float | None) -> str:
    """Write an expected time behind what it is of; nothing where none is known."""
    return "" if expected_s is None else f" (about {seconds(expected_s)})"


def columns(rows: Sequence[tuple[str, str]]) -> Iterator[str]:
    """Write rows below a heading, their second columns aligned."""
    width = max((len(name) for name, _ in rows), default=0)
    for name, text in rows:
        yield f"    {name.ljust(width)}  {text}"
