"""Random stacks of layers by the thousand, against podman: ``python -m tests.endurance.layers``.

Run as root; needs podman and skopeo. A difference is told with its seed, which makes it again.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.support.layer_stacks import (
    Stack,
    by_podman,
    differences,
    look,
    members_of,
    unpacked,
    write_layout,
)

_AT_ONCE = 250


def main() -> int:
    """Compare; returns 1 if something differs."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=2000, help="stacks (2000)")
    parser.add_argument("--first", type=int, default=0, help="first seed (0)")
    parser.add_argument("--height", type=int, default=4, help="layers of each (4)")
    chosen = parser.parse_args()
    begin, files, rows = time.monotonic(), 0, list[str]()
    end = chosen.first + chosen.count
    for first in range(chosen.first, end, _AT_ONCE):
        seeds = range(first, min(first + _AT_ONCE, end))
        stacks = [Stack(seed, f"stack{seed}", height=chosen.height) for seed in seeds]
        with tempfile.TemporaryDirectory() as folder:
            reference = write_layout(Path(folder, "layout"), members_of(stacks))
            ours = look(unpacked(reference, Path(folder, "work")))
            theirs = by_podman(reference, Path(folder, "podman"))
        files += len(ours)
        rows += differences(ours, theirs, stacks)
    print(*rows, sep="\n", end="\n" if rows else "")
    print(
        f"{chosen.count} stacks of {chosen.height} layers, {files} files, {len(rows)} differ, "
        f"{time.monotonic() - begin:.0f} s"
    )
    return bool(rows)


if __name__ == "__main__":
    sys.exit(main())
