"""``pytest-carthage import``: a lab that somebody has, as a layout in Python."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from pytest_carthage.errors import CarthageError


def add(commands: Any) -> None:
    """Add the command."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "import",
        help="write a lab of containerlab, Kathara or compose as a layout",
        description="Write the Python of a lab: a topology of containerlab, the folder of a "
        "lab.conf of Kathara, or a file of compose. What is not taken of it is listed at its end.",
    )
    parser.add_argument("lab", metavar="FILE|FOLDER", type=Path, help="the lab")
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="write to FILE, which must not be there"
    )
    parser.add_argument(
        "--target",
        default="podman",
        metavar="TARGET",
        help="of the services of compose (podman); netns: system containers",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Write it."""
    from pytest_carthage.labs.reading import read_lab
    from pytest_carthage.live.layout import here

    output: Path | None = arguments.output
    near = None if output is None else output.absolute().parent
    on = None if arguments.target == "netns" else arguments.target
    lab = read_lab(arguments.lab, here({}, near), on=on)
    lab.declared()  # what is wrong is told with the lab's own lines
    text = lab.source()
    if output is None:
        sys.stdout.write(text)
    else:
        try:
            with output.open("x", encoding="utf-8") as file:
                file.write(text)
        except OSError as error:
            raise CarthageError(f"cannot write {output}: {error.strerror}") from error
    for remark in lab.sorted_remarks:
        print(f"pytest-carthage: {remark}", file=sys.stderr)
    return 0
