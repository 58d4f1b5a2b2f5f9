"""``pytest-carthage gc``: remove what dead runs left."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from pytest_carthage.cli.output import add_json, print_json


def add(commands: Any) -> None:
    """Add the command."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "gc",
        help="remove what dead runs left",
        description="Remove what runs left whose supervisor was killed, and try again to destroy "
        "what could not be destroyed. What is alive or kept stays as it is. The exit status is 1 "
        "when something is left.",
    )
    add_json(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Remove it, and say what it was, and what is left."""
    from pytest_carthage.state.leftovers import collect_garbage

    collected = collect_garbage()
    if arguments.json:
        print_json(collected.removed)
    else:
        for line in collected.removed:
            print(f"removed {line}")
        if not collected.removed and not collected.failed:
            print("nothing to remove")
    for line in collected.failed:
        print(f"pytest-carthage: not removed: {line}", file=sys.stderr)
    return 1 if collected.failed else 0
