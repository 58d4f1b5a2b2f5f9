"""What ``pytest-carthage`` adds to the start of a pytest that does not use it.

Against: pytest alone, in a virtual environment that has nothing else. Both run one trivial test.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.harness import Figure, in_turns, main, seconds

_PROJECT = Path(__file__).resolve().parents[1]
#: starts of each kind in a round: they are short, and vary; so all kinds take turns, start by start
CALLS = 6


def environment(folder: Path, *packages: str) -> Path:
    """Make a virtual environment; returns its Python.

    :raises RuntimeError: a package cannot be installed, with what pip printed.
    """
    python = folder / "bin" / "python"
    for command in (
        [sys.executable, "-m", "venv", str(folder)],
        [str(python), "-m", "pip", "install", "--disable-pip-version-check", *packages],
    ):
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(done.stdout + done.stderr)
    return python


def take(rounds: int) -> Sequence[Figure]:
    """Take the figures: as installed by itself, and with testinfra, whose plugin pytest loads."""
    with tempfile.TemporaryDirectory(prefix="carthage-benchmark-") as name:
        folder = Path(name)
        (folder / "test_trivial.py").write_text("def test_trivial():\n    pass\n")
        ours = environment(folder / "ours", str(_PROJECT))
        freeze = [str(ours), "-m", "pip", "freeze"]
        installed = subprocess.run(freeze, check=True, capture_output=True, text=True).stdout
        same = next(line for line in installed.splitlines() if line.startswith("pytest=="))
        plain = environment(folder / "plain", same)
        whole = environment(folder / "whole", f"{_PROJECT}[testinfra]", same)

        def start(python: Path) -> Callable[[], float]:
            command = [str(python), "-m", "pytest", "-q", "."]

            def once() -> None:
                subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)

            return lambda: seconds(once) * 1e3

        with_it, with_testinfra, without = in_turns(
            rounds * CALLS, start(ours), start(whole), start(plain)
        )
    what = "start of pytest with one trivial test"
    return [
        Figure(
            what=what,
            unit="ms",
            ours=with_it,
            other=without,
            versus="pytest alone",
            at_most_times=1.08,
        ),
        Figure(
            what=f"{what}, testinfra installed, too",
            unit="ms",
            ours=with_testinfra,
            other=without,
            versus="pytest alone",
        ),
    ]


if __name__ == "__main__":
    main(take)
