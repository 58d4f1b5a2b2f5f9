"""``pytest-carthage gc``: remove what dead runs left."""

from __future__ import annotations

import argparse
from typing import Any

from pytest_carthage.cli.output import add_json, print_json


def add(commands: Any) -> None:
    """Add the command."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "gc",
        help="remove what dead runs left",
        description="Remove what runs left whose supervisor was killed. What is alive or kept "
        "stays as it is.",
    )
    add_json(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Remove it, and say what it was."""
    import asyncio

    from pytest_carthage.state.run import collect_garbage

    removed = asyncio.run(collect_garbage())
    if arguments.json:
        print_json(removed)
        return 0
    for line in removed:
        print(f"removed {line}")
    if not removed:
        print("nothing to remove")
    return 0
