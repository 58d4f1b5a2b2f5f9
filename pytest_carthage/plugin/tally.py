"""What environments cost that come again and again."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from contextlib import contextmanager

from pytest_carthage.clock import monotonic_s

__all__ = ["Tally"]


class Tally:
    """How long building and ending took, by layout and scope."""

    def __init__(self) -> None:
        self._built_s: dict[tuple[str, str], list[float]] = {}
        self._ended_s: dict[tuple[str, str], list[float]] = {}

    @contextmanager
    def building(self, layout: str, scope: str) -> Iterator[None]:
        """Count an environment whose building the block is; one that fails does not count."""
        began_s = monotonic_s()
        yield
        self._built_s.setdefault((layout, scope), []).append(monotonic_s() - began_s)

    @contextmanager
    def ending(self, layout: str, scope: str) -> Iterator[None]:
        """Count an environment whose end the block is."""
        began_s = monotonic_s()
        yield
        self._ended_s.setdefault((layout, scope), []).append(monotonic_s() - began_s)

    @property
    def lines(self) -> Iterator[str]:
        """One line for each layout of which there was more than one environment."""
        for (layout, scope), built_s in self._built_s.items():
            if scope == "session" or len(built_s) < 2:
                continue
            ended_s = self._ended_s.get((layout, scope), [])
            ends = f", gone in {statistics.median(ended_s):.2f} s" if ended_s else ""
            yield (
                f"layout {layout!r}: {len(built_s)} environments, one for each {scope}: built in "
                f"{statistics.median(built_s):.2f} s{ends} (median); all in all "
                f"{sum(built_s) + sum(ended_s):.1f} s"
            )
