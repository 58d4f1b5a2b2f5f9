"""Machines with images on the ``netns`` target: with systemd, declared to running, and sixteen
without, up and down.

Against: the same machine on the ``podman`` target; sixteen ``podman run -d --network none`` at the
same time, and their ``podman rm``. Where a host's limits forbid thirty machines with systemd, their
figure is left out, and told.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

from benchmarks.harness import Figure, in_turns, main
from benchmarks.layouts import BOOTS, IMAGE, REFERENCE, crowd, live
from benchmarks.sealed import podman
from pytest_carthage.errors import HostError

COUNT = 16
#: number of machines with systemd, to seconds that they may take
MANY = {30: 12.0, 100: None}


def booted(on: str | None, count: int = 1) -> float:
    """Seconds from before the class exists until systemd of every machine has started all."""
    begin = time.perf_counter()
    with live(crowd(count, image=BOOTS, on=on, init="systemd")) as environment:
        taken = time.perf_counter() - begin
        for machine in environment:
            state = machine.run("systemctl is-system-running", check=False).stdout.strip()
            if state != "running" and not (on and state == "degraded"):
                raise RuntimeError(f"systemd of {machine.name} is {state!r}")
    return taken


def sixteen() -> tuple[float, float]:
    """Seconds until each of sixteen has run a command, and until they are gone again."""
    begin = time.perf_counter()
    with live(crowd(COUNT, image=IMAGE)) as environment:
        for number in range(COUNT):
            environment[f"m{number}"].run("true")
        up = time.perf_counter()
    return up - begin, time.perf_counter() - up


def sixteen_of_podman() -> tuple[float, float]:
    """The same by podman's own command line, without the command."""
    with podman() as plain:
        run = ("run", "-d", "--network", "none")
        names = [f"m{number}" for number in range(COUNT)]
        up = plain.seconds(
            *((*run, "--name", name, REFERENCE, "sleep", "infinity") for name in names)
        )
        return up, plain.seconds(("rm", "-f", "-t", "0", *names))


def many(rounds: int, count: int, at_most: float | None) -> Sequence[Figure]:
    """Seconds until systemd of so many has started all; nothing where the host cannot have them."""
    try:
        (taken,) = in_turns(rounds, lambda: booted(None, count))
    except HostError as error:
        print(f"left out: {count} machines with systemd: {error}", file=sys.stderr)
        return ()
    what = f"{count} machines with systemd up"
    return (Figure(what=what, unit="s", ours=taken, at_most=at_most),)


def take(rounds: int) -> Sequence[Figure]:
    """Take the figures."""
    booted(None)  # the image is there from now on
    booted("podman")
    ours, theirs = in_turns(rounds, lambda: booted(None), lambda: booted("podman"))
    figures = [
        Figure(
            what="a machine with systemd, declared to running",
            unit="s",
            ours=ours,
            other=theirs,
            versus="the same on the podman target",
            at_most=0.6,
            at_most_times=0.7,
        )
    ]
    with live(crowd(1, image=IMAGE, on="podman")):
        pass  # its tag is in podman's store, too
    here: list[tuple[float, float]] = []
    there: list[tuple[float, float]] = []

    def ours_once() -> float:
        here.append(sixteen())
        return 0.0

    def theirs_once() -> float:
        there.append(sixteen_of_podman())
        return 0.0

    in_turns(rounds, ours_once, theirs_once)
    for number, (what, at_most) in enumerate(
        [(f"{COUNT} machines with an image up, a command each", 0.45), ("they are gone", 0.3)]
    ):
        figures.append(
            Figure(
                what=what,
                unit="s",
                ours=tuple(pair[number] for pair in here),
                other=tuple(pair[number] for pair in there),
                versus=f"{COUNT} concurrent podman run" if number == 0 else "podman rm",
                at_most=at_most,
            )
        )
    for count, most in MANY.items():
        figures += many(rounds, count, most)
    return figures


if __name__ == "__main__":
    main(take)
