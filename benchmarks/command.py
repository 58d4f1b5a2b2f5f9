"""A command in a machine of the ``podman`` target.

Against: ``podman exec`` into a container of the same image.
"""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.harness import Figure, in_turns, main, seconds
from benchmarks.layouts import IMAGE, REFERENCE, crowd, live
from benchmarks.sealed import podman

#: calls of each kind in a round
CALLS = 10


def take(rounds: int) -> Sequence[Figure]:
    """Take the figure."""
    with live(crowd(1, image=IMAGE, on="podman")) as environment, podman() as plain:
        machine = environment["m0"]
        plain.script(f"$run -d --name m0 --network none {REFERENCE} sleep infinity")

        def ours() -> float:
            return seconds(lambda: [machine.run("true") for _ in range(CALLS)]) / CALLS * 1e3

        def exec_() -> float:
            return sum(plain.seconds(["exec", "m0", "true"]) for _ in range(CALLS)) / CALLS * 1e3

        call, process = in_turns(rounds, ours, exec_)
    figure = Figure(
        what='machine.run("true") in a podman machine',
        unit="ms",
        ours=call,
        other=process,
        versus="podman exec",
        at_most=5,
        times_faster=20,
    )
    return [figure]


if __name__ == "__main__":
    main(take)
