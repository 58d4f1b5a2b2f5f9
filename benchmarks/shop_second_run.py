"""The second run of ``example_suites/shop``, whole process: its images are there already."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.harness import Figure, in_turns, main, seconds

_PROJECT = Path(__file__).resolve().parents[1]
_COMMAND = [sys.executable, "-m", "pytest", "--carthage-strict", "example_suites/shop"]


def run(target: str | None = None) -> float:
    """Seconds of one run of the suite.

    :param target: on which all its machines are; None: each on its own.
    :raises RuntimeError: it failed, with what it printed.
    """
    command = _COMMAND if target is None else [*_COMMAND, f"--carthage-target={target}"]

    def once() -> None:
        done = subprocess.run(command, cwd=_PROJECT, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(done.stdout + done.stderr)

    return seconds(once)


def take(rounds: int) -> Sequence[Figure]:
    """Take the figure; the round that warms up is the first run."""
    (taken,) = in_turns(rounds, run)
    figure = Figure(what="second run of example_suites/shop", unit="s", ours=taken, at_most=40)
    return [figure]


if __name__ == "__main__":
    main(take)
