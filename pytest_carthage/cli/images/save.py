"""``pytest-carthage images save``: save an image to a file."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_carthage.cli.images.making import make_of
from pytest_carthage.cli.images.selection import NAME
from pytest_carthage.cli.output import size

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_carthage.store.built import Built

__all__ = ["add", "run"]


def add(verbs: Any) -> None:
    """Add the verb."""
    parser: argparse.ArgumentParser = verbs.add_parser(
        "save",
        help="save an image to a file",
        description="Save an image as what the name of the file says: .oci.tar an OCI archive, "
        ".tar, .tar.gz or .tar.zst its root file system, .qcow2 or .img a disk to boot.",
    )
    parser.add_argument("name", metavar="NAME", help=NAME)
    parser.add_argument("file", metavar="FILE", type=Path)
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Save it."""
    from pytest_carthage.images.exports import results

    target = Path(arguments.file).absolute()

    async def save(built: Built, note: Callable[[str], None]) -> None:
        await results.save(built, target, note=note)

    make_of(arguments.name, "save", save, quiet=arguments.quiet)
    print(f"{arguments.file}: {size(target.stat().st_size)}")
    return 0
