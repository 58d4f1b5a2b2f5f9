"""Sixteen machines of the ``podman`` target, declared to ready.

Against: sixteen ``podman run -d --network none`` of the same image at the same time. These have
no network.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from benchmarks.harness import Figure, in_turns, main
from benchmarks.layouts import IMAGE, REFERENCE, crowd, live
from benchmarks.sealed import podman

COUNT = 16


def up() -> float:
    """Seconds from before the class exists until every machine can be used."""
    begin = time.perf_counter()
    with live(crowd(COUNT, image=IMAGE, on="podman")) as environment:
        taken = time.perf_counter() - begin
        for number in range(COUNT):
            environment[f"m{number}"].run("true")
    return taken


def with_podman() -> float:
    """Seconds that podman's own command line takes."""
    with podman() as plain:
        run = ("run", "-d", "--network", "none")
        commands = [(*run, "--name", f"m{n}", REFERENCE, "sleep", "infinity") for n in range(COUNT)]
        return plain.seconds(*commands)


def take(rounds: int) -> Sequence[Figure]:
    """Take the figure."""
    with live(crowd(1, image=IMAGE, on="podman")):
        pass  # the image is there from now on
    ours, plain = in_turns(rounds, up, with_podman)
    figure = Figure(
        what=f"{COUNT} podman machines up",
        unit="s",
        ours=ours,
        other=plain,
        versus=f"{COUNT} concurrent podman run",
        at_most_times=1.3,
    )
    return [figure]


if __name__ == "__main__":
    main(take)
