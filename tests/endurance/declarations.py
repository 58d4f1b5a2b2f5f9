"""Random declarations: each is planned, or refused with a LayoutError that names its offender.

``python -m tests.endurance.declarations --count 100000 --seed 1`` takes some minutes; ``--build
300`` also builds that many of those that were accepted, over the host's files. Each failure is
told once per place, with a small layout that shows it; the exit status says whether there was one.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from random import Random

from tests.endurance.author import Program, write
from tests.endurance.trial import Trial, attempt

__all__ = ["Report", "examine", "main", "smallest"]

_BATCH = 500
_TOLD = 5000


@dataclass(slots=True)
class Report:
    """What came of some declarations."""

    count: int = 0
    planned: int = 0
    refused: int = 0
    #: group of failures to how often, and the first number of a declaration
    failures: dict[str, tuple[int, int]] = field(default_factory=dict)

    def __str__(self) -> str:
        failed = sum(times for times, _ in self.failures.values())
        return (
            f"{self.count} declarations, {self.planned} planned, {self.refused} refused, "
            f"{failed} failed at {len(self.failures)} places"
        )

    def add(self, other: Report) -> None:
        """Count those of another one, too."""
        self.count += other.count
        self.planned += other.planned
        self.refused += other.refused
        for group, (times, number) in other.failures.items():
            before, first = self.failures.get(group, (0, number))
            self.failures[group] = before + times, min(first, number)


def program(seed: int, number: int) -> Program:
    """The declaration of a number: the same for the same seed."""
    return write(Random(f"{seed}:{number}"))


def examine(seed: int, numbers: Iterable[int]) -> Report:
    """Try the declarations of some numbers."""
    report = Report()
    groups: Counter[str] = Counter()
    first: dict[str, int] = {}
    for number in numbers:
        trial = attempt(program(seed, number))
        report.count += 1
        if trial.fault:
            groups[trial.group] += 1
            first.setdefault(trial.group, number)
        elif trial.plan is not None:
            report.planned += 1
        else:
            report.refused += 1
    report.failures = {group: (times, first[group]) for group, times in groups.items()}
    return report


def smallest(written: Program, group: str) -> tuple[Program, Trial]:
    """A declaration that fails in the same place, of which nothing can be left out."""
    trial = attempt(written)
    while True:
        for smaller in written.smaller():
            if (other := attempt(smaller)).group == group:
                written, trial = smaller, other
                break
        else:
            return written, trial


def _batch(arguments: tuple[int, int, int]) -> Report:
    seed, start, end = arguments
    return examine(seed, range(start, end))


def main(arguments: list[str] | None = None) -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--start", type=int, default=0, help="number of the first one")
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--build", type=int, default=0, help="how many to build, too")
    options = parser.parse_args(arguments)
    print(f"seed {options.seed}", flush=True)
    begun = time.monotonic()
    end = options.start + options.count
    batches = [
        (options.seed, start, min(start + _BATCH, end))
        for start in range(options.start, end, _BATCH)
    ]
    report = Report()
    with ProcessPoolExecutor(options.workers) as pool:
        for part in pool.map(_batch, batches):
            for group in part.failures.keys() - report.failures.keys():
                print(f"number {part.failures[group][1]}: {group}", flush=True)
            report.add(part)
            if report.count % _TOLD == 0:
                print(f"{time.monotonic() - begun:.0f} s: {report}", flush=True)
    took_s = time.monotonic() - begun
    print(f"in {took_s:.0f} s: {report}", flush=True)
    for group, (times, number) in sorted(report.failures.items(), key=lambda one: -one[1][0]):
        small, trial = smallest(program(options.seed, number), group)
        print(f"\n--- {times} x {group} (number {number})\n{small}{trial.message[:600]}")
    built = True
    if options.build:
        from tests.endurance.building import build_some

        built = build_some(options.seed, options.build)
    return 0 if built and not report.failures else 1


if __name__ == "__main__":
    sys.exit(main())
