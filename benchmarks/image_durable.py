"""What it costs to have a layer on the disk before it has its name: the last of ten, built again.

Against: the same without, when the kernel writes it down whenever it likes. On a disk that others
write to, theirs is waited for, too: see syncfs(2).
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from unittest import mock

from benchmarks.harness import Figure, in_turns, main, seconds
from benchmarks.images import LAYERS, bench, ten_files, ten_layers
from pytest_carthage.store import disk


def take(rounds: int) -> Sequence[Figure]:
    """Take the figure; the round that warms up builds all of it."""
    texts = (f"round{number}" for number in itertools.count())
    with bench() as ours, ten_files() as context:

        def build() -> float:
            return seconds(lambda: ours.build(ten_layers(context, next(texts))))

        def build_loosely() -> float:
            with _without_disk():
                return build()

        taken, other = in_turns(rounds, build, build_loosely)
    figure = Figure(
        what=f"the last of {LAYERS} layers, built again and brought to the disk",
        unit="s",
        ours=taken,
        other=other,
        versus="left to the kernel",
        at_most_more=0.5,
    )
    return [figure]


@contextmanager
def _without_disk() -> Iterator[None]:
    """Nothing waits for the disk while the block runs."""
    with ExitStack() as stack:
        for owner, name in ((disk, "settle"), (disk, "settle_names"), (os, "fsync")):
            stack.enter_context(mock.patch.object(owner, name))
        yield


if __name__ == "__main__":
    main(take)
