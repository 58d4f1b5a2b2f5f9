"""``pytest-carthage images gc``: remove what is not needed any more."""

from __future__ import annotations

import argparse
from typing import Any

from pytest_carthage.cli.images.removal import row
from pytest_carthage.cli.output import add_json, print_json, size
from pytest_carthage.cli.usage import Usage

__all__ = ["add", "run"]


def add(verbs: Any) -> None:
    """Add the verb."""
    parser: argparse.ArgumentParser = verbs.add_parser(
        "gc",
        help="remove what is not needed",
        description="Remove images that were not used for long, layers that are in no image, "
        "broken builds and downloaded packages of that age, and what dead builds have left. What "
        "somebody uses or builds stays.",
    )
    parser.add_argument(
        "--older-than", metavar="DURATION", default="30d", help="as in 12h, 7d, 30d (default)"
    )
    parser.add_argument("--dry-run", action="store_true", help="only tell what would be removed")
    add_json(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Remove it."""
    from pytest_carthage.reference.durations import duration_s
    from pytest_carthage.store.garbage import collect
    from pytest_carthage.store.root import Store

    try:
        older_than_s = duration_s(arguments.older_than)
    except ValueError as error:
        raise Usage(f"--older-than: {error}") from error
    removed = collect(Store(), older_than_s=older_than_s, dry_run=arguments.dry_run)
    if arguments.json:
        print_json([row(gone) for gone in removed])
        return 0
    verb = "would remove" if arguments.dry_run else "removed"
    for gone in removed:
        print(f"{verb} {gone.kind}: {gone.name}{f', {size(gone.size)}' if gone.size else ''}")
    if not removed:
        print("nothing to remove")
        return 0
    total = size(sum(gone.size for gone in removed))
    print(f"{total} {'would be ' if arguments.dry_run else ''}freed")
    return 0
