"""The last of ten layers is built again, since its task has changed.

The task's own time, some milliseconds for an ``echo``, is not taken off. Against: ``podman build``
of an equal Containerfile, whose last line has changed.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from benchmarks.harness import Figure, in_turns, main, seconds
from benchmarks.images import LAYERS, bench, podman_build, ten_files, ten_layers, ten_lines


def take(rounds: int) -> Sequence[Figure]:
    """Take the figure; the round that warms up builds all of it."""
    texts = (f"round{number}" for number in itertools.count())
    with bench() as ours, ten_files() as context, podman_build(context) as plain:
        taken, other = in_turns(
            rounds,
            lambda: seconds(lambda: ours.build(ten_layers(context, next(texts)))),
            lambda: plain.build(ten_lines(next(texts))),
        )
    figure = Figure(
        what=f"the last of {LAYERS} layers, built again",
        unit="s",
        ours=taken,
        other=other,
        versus="podman build --layers",
        at_most=3,
    )
    return [figure]


if __name__ == "__main__":
    main(take)
