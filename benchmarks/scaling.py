"""How the time of a ``netns`` machine depends on how many there are: 10, 100 and 1000.

Against: the same ``ip -batch`` script as in :mod:`benchmarks.machines_100`.
"""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.harness import Figure, in_turns, main
from benchmarks.machines_100 import declared_to_ready, with_ip

COUNTS = (10, 100, 1000)


def each(count: int, rounds: int) -> Figure:
    """Milliseconds per machine."""
    ours, plain = in_turns(
        rounds,
        lambda: declared_to_ready(count) / count * 1e3,
        lambda: with_ip(count) / count * 1e3,
    )
    return Figure(
        what=f"one of {count} netns machines",
        unit="ms",
        ours=ours,
        other=plain,
        versus="ip -batch",
    )


def take(rounds: int) -> Sequence[Figure]:
    """Take the figures."""
    return [each(count, rounds) for count in COUNTS]


if __name__ == "__main__":
    main(take)
