"""``pytest-carthage ls``: what is alive, and what should not be."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pytest_carthage import clock
from pytest_carthage.cli.leftovers import sentence
from pytest_carthage.cli.listing import ended_records, has_owner, record
from pytest_carthage.cli.output import add_json, print_json, print_table

if TYPE_CHECKING:
    from pytest_carthage.state.listing import Listed


def add(commands: Any) -> None:
    """Add the command."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "ls",
        help="list live environments",
        description="List live environments: name, layout, machines, age, how long they stay, "
        "and the process that built them; and what is left of others that could not be "
        "destroyed. The exit status is 1 when a run does not say what it has.",
    )
    add_json(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print them, oldest first."""
    from pytest_carthage.state.leftovers import leftovers
    from pytest_carthage.state.listing import look

    listing, left = look(), leftovers()
    for complaint in listing.silent:
        print(f"pytest-carthage: {complaint}", file=sys.stderr)
    status = 1 if listing.silent else 0
    if arguments.json:
        alive = [record(environment) for environment in listing.environments]
        print_json([*alive, *ended_records(left)])
        return status
    _print_alive(listing.environments)
    if left:
        print("not destroyed yet:")
        for leftover in left:
            print(f"  {sentence(leftover)}")
        print("try again: pytest-carthage gc")
    return status


def _print_alive(environments: Sequence[Listed]) -> None:
    from pytest_carthage.report.kept import age, expiry

    now_s = clock.unix_s()
    if not environments:
        print("no environment is alive")
        return
    print_table(
        ("ENVIRONMENT", "LAYOUT", "MACHINES", "AGE", "STAYS", "OWNER"),
        [
            (
                environment.name,
                environment.layout,
                _several([_machine(*row) for row in environment.machines.items()]),
                age(now_s - environment.created_at),
                expiry(kept=environment.kept, expires_at=environment.expires_at, now_s=now_s),
                f"pid {environment.owner_pid}" if has_owner(environment) else "gone",
            )
            for environment in environments
        ],
    )


def _machine(name: str, described: Mapping[str, Any]) -> str:
    """Its name, with the way to it where an agent of the fabric is not in it."""
    way = described.get("way")
    return f"{name} (by {way})" if way else name


def _several(names: list[str], most: int = 6) -> str:
    shown = ", ".join(names[:most])
    return f"{shown}, and {len(names) - most} more" if len(names) > most else shown or "-"
