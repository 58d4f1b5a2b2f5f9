"""Measuring side by side: how a figure is taken, held against its bound, and told.

A script of this folder has a function that takes its figures, and hands it to :func:`main`::

    python -m benchmarks.machines_100 [--rounds N] [--json FILE]

Figures are taken by hand, on a quiet machine.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import signal
import statistics
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["LEAST_ROUNDS", "Figure", "in_turns", "main", "seconds", "table"]

#: of a generator each figure is printed as it is taken, and counts whatever becomes of the others
Take = Callable[[int], Iterable["Figure"]]

#: rounds by default; fewer have no median worth telling
LEAST_ROUNDS = 5
_ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# The kernel removes namespaces after their last process has ended, in the background, and
# tells nobody when it is done. What one side left must not be measured on the other.
_SETTLE_S = 0.3


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One figure: what was measured, and what it must hold.

    A figure has the bounds that are not None, and holds when all of them do.
    """

    what: str
    unit: str
    ours: tuple[float, ...]
    #: the alternative, measured in the same rounds and unit
    other: tuple[float, ...] = ()
    #: what the alternative is
    versus: str = ""
    #: bound of our median
    at_most: float | None = None
    #: bound of our median, in medians of the alternative
    at_most_times: float | None = None
    #: how many of our medians must fit into that of the alternative
    times_faster: float | None = None
    #: bound of what our median is above that of the alternative
    at_most_more: float | None = None

    @property
    def median(self) -> float:
        """Median of ours."""
        return statistics.median(self.ours)

    @property
    def other_median(self) -> float | None:
        """Median of the alternative, where there is one."""
        return statistics.median(self.other) if self.other else None

    @property
    def ratio(self) -> float | None:
        """Ours by the alternative."""
        other = self.other_median
        return self.median / other if other else None

    @property
    def more(self) -> float | None:
        """Ours less the alternative."""
        other = self.other_median
        return None if other is None else self.median - other

    @property
    def holds(self) -> bool:
        """Whether all bounds hold."""
        ratio, more = self.ratio, self.more
        return all(
            (
                self.at_most is None or self.median <= self.at_most,
                self.at_most_times is None or (ratio is not None and ratio <= self.at_most_times),
                self.times_faster is None or (ratio is not None and 1 / ratio >= self.times_faster),
                self.at_most_more is None or (more is not None and more <= self.at_most_more),
            )
        )

    @property
    def bound(self) -> str:
        """The bounds, in words; empty where there is none."""
        words = []
        if self.at_most is not None:
            words.append(f"at most {self.at_most:g} {self.unit}")
        if self.at_most_times is not None:
            words.append(f"at most {self.at_most_times:g} times as much")
        if self.times_faster is not None:
            words.append(f"{self.times_faster:g} times faster")
        if self.at_most_more is not None:
            words.append(f"at most {self.at_most_more:g} {self.unit} more")
        return " and ".join(words)

    @property
    def verdict(self) -> str:
        """The ratio or difference that counts, and whether the bounds hold."""
        words = []
        if self.at_most_more is not None and self.more is not None:
            words.append(f"{_number(self.more)} {self.unit} more")
        elif self.ratio is not None:
            if self.times_faster is not None or self.ratio < 0.1:
                words.append(f"{1 / self.ratio:.0f} times faster")
            else:
                words.append(f"{self.ratio:.2f} times")
        if self.bound:
            words.append("holds" if self.holds else "**missed**")
        return ", ".join(words)

    @property
    def row(self) -> tuple[str, ...]:
        """Cells of the table."""
        against = f"{self._spread(self.other)}, {self.versus}" if self.other else self.versus
        return (self.what, self._spread(self.ours), against, self.bound, self.verdict)

    def _spread(self, values: Sequence[float]) -> str:
        least, most = _number(min(values)), _number(max(values))
        return f"{_number(statistics.median(values))} {self.unit} ({least} to {most})"

    def as_json(self) -> Mapping[str, Any]:
        """The figure for a program to read."""
        return {
            "what": self.what,
            "unit": self.unit,
            "median": self.median,
            "values": self.ours,
            "versus": self.versus or None,
            "versus_median": self.other_median,
            "versus_values": self.other,
            "ratio": self.ratio,
            "bound": self.bound or None,
            "holds": self.holds,
        }


def _number(value: float) -> str:
    return f"{value:.{2 if abs(value) < 10 else 1 if abs(value) < 100 else 0}f}"


def seconds(work: Callable[[], object]) -> float:
    """How long it takes, once."""
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def in_turns(
    rounds: int, *sides: Callable[[], float], warm_up: bool = True
) -> list[tuple[float, ...]]:
    """What each side returns, called in turns, so that a slow minute hits all of them alike.

    Who begins changes from round to round.

    :param warm_up: one round before, which is not counted, loads what is loaded once.
    """
    taken: list[list[float]] = [[] for _ in sides]
    for turn in range(-1 if warm_up else 0, rounds):
        for step in range(len(sides)):
            number = (turn + step) % len(sides)
            time.sleep(_SETTLE_S)
            value = sides[number]()
            if turn >= 0:
                taken[number].append(value)
    return [tuple(values) for values in taken]


def machine() -> Mapping[str, Any]:
    """What the figures are taken on."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "processors": os.cpu_count(),
        "memory_gib": round(memory / 2**30),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load": os.getloadavg()[0],
    }


def table(figures: Sequence[Figure]) -> str:
    """The figures as a Markdown table."""
    head = ("what", "here", "against", "bound", "verdict")
    rows = [head, *(figure.row for figure in figures)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    lines = [f"| {' | '.join(map(str.ljust, row, widths))} |" for row in rows]
    lines.insert(1, f"|{'|'.join('-' * (width + 2) for width in widths)}|")
    return "\n".join(lines)


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """Have every way to end a script be a KeyboardInterrupt, so that it cleans up."""

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in _ENDS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def main(take: Take) -> None:
    """Entry of a script: take its figures and print them; status 1 where a bound is missed."""
    parser = argparse.ArgumentParser(
        description=sys.modules["__main__"].__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rounds", type=int, default=LEAST_ROUNDS, help="default: %(default)s")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all values there, too")
    options = parser.parse_args()
    if options.rounds < LEAST_ROUNDS:
        parser.error(f"--rounds: at least {LEAST_ROUNDS}, or the median means nothing")
    before = machine()
    figures: list[Figure] = []
    has_failed = False
    try:
        with terminable():
            for figure in take(options.rounds):
                figures.append(figure)
                words = [*filter(None, figure.row), f"load {os.getloadavg()[0]:.1f}"]
                print("  " + "; ".join(words), file=sys.stderr, flush=True)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception:  # what was taken is worth having
        traceback.print_exc()
        has_failed = True
    load = os.getloadavg()[0]
    print(table(figures))
    print(
        f"\nMedians of {options.rounds}, least and most in brackets; "
        f"{before['processors']} processors, {before['memory_gib']} GiB, "
        f"Linux {before['kernel']}, Python {before['python']}; "
        f"load {before['load']:.1f} before, {load:.1f} after."
    )
    if options.json:
        result = {
            "taken_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "rounds": options.rounds,
            "machine": {**before, "load_after": load},
            "figures": [figure.as_json() for figure in figures],
        }
        options.json.write_text(json.dumps(result, indent=1) + "\n")
    sys.exit(0 if not has_failed and all(figure.holds for figure in figures) else 1)
