"""``example_suites/deployment``, whole process: from nothing, and its minor update.

Nothing: no image, no package list, no package; the archive is on the network. The update is what
the suite's last phase takes: a patch of one line, until one of two hosts serves the new version.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.harness import Figure, main, seconds

_SUITE = Path(__file__).resolve().parents[1] / "example_suites" / "deployment"
_COMMAND = [sys.executable, "-m", "pytest", "--carthage-strict", "-p", "no:cacheprovider"]
_UPDATE = re.compile(r"^update +([0-9.]+) s$", re.MULTILINE)


def run() -> tuple[float, float]:
    """Seconds of one run from nothing, and those of the update in it.

    :raises RuntimeError: it failed, with what it printed.
    """
    printed = ""

    def once() -> None:
        nonlocal printed
        env = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST")}
        env["CARTHAGE_IMAGES"] = str(folder / "images")
        done = subprocess.run(_COMMAND, cwd=suite, env=env, capture_output=True, text=True)
        printed = done.stdout
        if done.returncode:
            raise RuntimeError(done.stdout + done.stderr)

    with tempfile.TemporaryDirectory(prefix="carthage-benchmark-", dir="/var/tmp") as name:
        folder = Path(name)
        suite = shutil.copytree(_SUITE, folder / "suite", ignore=shutil.ignore_patterns("dist"))
        whole = seconds(once)
    told = _UPDATE.search(printed)
    if told is None:
        raise RuntimeError(f"the suite has not told how long its update took:\n{printed}")
    return whole, float(told[1])


def take(rounds: int) -> Sequence[Figure]:
    """Take the figures."""
    taken = [run() for _ in range(rounds)]
    return [
        Figure(
            what="example_suites/deployment from nothing",
            unit="s",
            ours=tuple(whole for whole, _ in taken),
            at_most=600,
        ),
        Figure(
            what="a minor update of it",
            unit="s",
            ours=tuple(update for _, update in taken),
            at_most=20,
        ),
    ]


if __name__ == "__main__":
    main(take)
