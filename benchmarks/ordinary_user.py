"""Machines with images of an ordinary user: one with systemd, and sixteen without, up and down.

Against: the same as root. The user is a new account, which root gives subordinate ids and a control
group; it is gone afterwards.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

from benchmarks.harness import Figure, in_turns, main
from benchmarks.layouts import crowd, live
from pytest_carthage.images.builder import ensure
from pytest_carthage.portal import Portal
from tests.providers.conftest import DEBIAN
from tests.support.ordinary import users

COUNT = 16
#: tells a process of this module that it is one of the sides
_ONCE = "once"
_MODULE = "benchmarks.ordinary_user"


def once() -> list[float]:
    """Seconds until a machine has booted; until sixteen have run a command, and are gone again."""
    times = []
    for count in (1, COUNT):
        begin = time.perf_counter()
        layout = crowd(count, image=DEBIAN, init="systemd" if count == 1 else None)
        with live(layout) as environment:
            for number in range(count):
                environment[f"m{number}"].run("true")
            up = time.perf_counter()
        times += [up - begin, time.perf_counter() - up]
    return times


def _root() -> list[float]:
    argv = [sys.executable, "-m", _MODULE, _ONCE]
    done = subprocess.run(argv, check=True, stdout=subprocess.PIPE, text=True)
    return list(json.loads(done.stdout))


def take(rounds: int) -> Sequence[Figure]:
    """Take the figures."""
    with contextlib.closing(Portal()) as portal:
        built = portal.call(lambda: ensure(DEBIAN, portal=portal, note=lambda who, text: None))
    with users(built) as user:

        def ordinary() -> list[float]:
            done = user.run(_MODULE, _ONCE, delegated=True)
            if done.returncode:
                raise RuntimeError(done.stderr)
            return list(json.loads(done.stdout))

        taken: list[list[list[float]]] = [[], []]

        def side(number: int, run: Callable[[], list[float]]) -> Callable[[], float]:
            def turn() -> float:
                taken[number].append(run())
                return 0.0

            return turn

        in_turns(rounds, side(0, ordinary), side(1, _root))
    names = ("a machine with systemd", "it is gone", f"{COUNT} machines up", "they are gone")
    return [
        Figure(
            what=f"{name}, of an ordinary user",
            unit="s",
            # the first of each has loaded what is loaded once
            ours=tuple(times[row] for times in taken[0][1:]),
            other=tuple(times[row] for times in taken[1][1:]),
            versus="of root",
            at_most_times=None if row == 1 else 1.3,
        )
        for row, name in enumerate(names)
    ]


if __name__ == "__main__":
    if sys.argv[1:] == [_ONCE]:
        print(json.dumps(once()))
    else:
        main(take)
