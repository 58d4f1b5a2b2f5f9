"""What ``pytest-carthage`` adds to the start of a pytest that does not use it.

Against: pytest alone, in a virtual environment that has nothing else. Both run one trivial test.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.harness import Figure, in_turns, main, seconds

_PROJECT = Path(__file__).resolve().parents[1]
#: starts of each kind in a round: they are short, and vary; so both kinds take turns
CALLS = 5


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
    """Take the figure."""
    with tempfile.TemporaryDirectory(prefix="carthage-benchmark-") as name:
        folder = Path(name)
        (folder / "test_trivial.py").write_text("def test_trivial():\n    pass\n")
        ours = environment(folder / "ours", str(_PROJECT))
        freeze = [str(ours), "-m", "pip", "freeze"]
        installed = subprocess.run(freeze, check=True, capture_output=True, text=True).stdout
        same = next(line for line in installed.splitlines() if line.startswith("pytest=="))
        plain = environment(folder / "plain", same)

        def start(python: Path) -> float:
            command = [str(python), "-m", "pytest", "-q", "."]

            def once() -> None:
                subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)

            return seconds(once) * 1e3

        with_it, without = in_turns(rounds * CALLS, lambda: start(ours), lambda: start(plain))
    figure = Figure(
        what="start of pytest with one trivial test",
        unit="ms",
        ours=with_it,
        other=without,
        versus="pytest alone",
        at_most_more=30,
    )
    return [figure]


if __name__ == "__main__":
    main(take)
