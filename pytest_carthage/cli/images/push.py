"""``pytest-carthage images push``: push an image to a registry."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from pytest_carthage.cli.images.making import make_of
from pytest_carthage.cli.images.selection import NAME

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_carthage.store.built import Built

__all__ = ["add", "run"]


def add(verbs: Any) -> None:
    """Add the verb."""
    parser: argparse.ArgumentParser = verbs.add_parser(
        "push", help="push an image to a registry", description="Push an image to a registry."
    )
    parser.add_argument("name", metavar="NAME", help=NAME)
    parser.add_argument(
        "destination", metavar="DESTINATION", help="as in docker://registry.example/name:tag"
    )
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Push it."""
    from pytest_carthage.images.exports.oci import registry

    async def push(built: Built, note: Callable[[str], None]) -> None:
        await registry.push(built, arguments.destination, note=note)

    make_of(arguments.name, "push", push, quiet=arguments.quiet)
    print(f"pushed to {arguments.destination}")
    return 0
