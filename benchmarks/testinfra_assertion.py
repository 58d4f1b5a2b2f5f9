"""A testinfra assertion on a machine of the ``podman`` target.

Against: testinfra's own podman backend, on a container of the same image.
"""

from __future__ import annotations

import json
import shlex
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.harness import Figure, in_turns, main, seconds
from benchmarks.layouts import IMAGE, REFERENCE, crowd, live
from benchmarks.sealed import podman

#: assertions in a round
CALLS = 20
FILE = "/etc/passwd"

# in a process of its own, since podman's namespaces are not ours; it times what comes after
# testinfra has been loaded and has looked at the system
_THEIRS = f"""
import json, sys, time, testinfra
host = testinfra.get_host("podman://m0")
assert host.file({FILE!r}).exists
begin = time.perf_counter()
for _ in range(3):
    assert host.file({FILE!r}).exists
print(json.dumps((time.perf_counter() - begin) / 3), file=open(sys.argv[1], "w"))
"""


def take(rounds: int) -> Sequence[Figure]:
    """Take the figure."""
    with (
        live(crowd(1, image=IMAGE, on="podman")) as environment,
        podman() as plain,
        tempfile.TemporaryDirectory() as folder,
    ):
        host = environment["m0"].host
        assert host.file(FILE).exists
        assert not host.file("/etc/no such file").exists
        plain.script(f"$run -d --name m0 --network none {REFERENCE} sleep infinity")
        answer = Path(folder) / "seconds"
        program = shlex.join([sys.executable, "-c", _THEIRS, str(answer)])

        def ours() -> float:
            return seconds(lambda: [host.file(FILE).exists for _ in range(CALLS)]) / CALLS * 1e3

        def theirs() -> float:
            plain.script(program)
            return float(json.loads(answer.read_text())) * 1e3

        here, there = in_turns(rounds, ours, theirs)
    figure = Figure(
        what="host.file(...).exists (testinfra) on a podman machine",
        unit="ms",
        ours=here,
        other=there,
        versus="testinfra's podman backend",
        at_most=6,
    )
    return [figure]


if __name__ == "__main__":
    main(take)
