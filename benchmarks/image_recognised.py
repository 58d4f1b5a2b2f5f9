"""An image of ten layers beside its base that is there already: how long it takes to know that.

Each time in a new process: its declaration's key, the files that its tasks have read, its layers,
and the modules that are loaded for it. Against: ``podman build`` of an equal Containerfile.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

from benchmarks.harness import Figure, in_turns, main
from benchmarks.images import LAYERS, bench, podman_build, ten_files, ten_layers, ten_lines

_PROGRAM = """
import sys
from pathlib import Path
from benchmarks.images import recognise
print(1000 * recognise(Path(sys.argv[1]), Path(sys.argv[2])))
"""


def take(rounds: int) -> Sequence[Figure]:
    """Take the figure."""
    with bench() as ours, ten_files() as context, podman_build(context) as plain:
        ours.build(ten_layers(context, "last"))
        command = [sys.executable, "-c", _PROGRAM, str(ours.root), str(context)]

        def recognised() -> float:
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            return float(done.stdout)

        taken, other = in_turns(rounds, recognised, lambda: 1000 * plain.build(ten_lines("last")))
    figure = Figure(
        what=f"an unchanged image of {LAYERS} layers, recognised",
        unit="ms",
        ours=taken,
        other=other,
        versus="podman build, nothing changed",
        at_most=50,
    )
    return [figure]


if __name__ == "__main__":
    main(take)
