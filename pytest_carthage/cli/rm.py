"""``pytest-carthage rm NAME``: destroy environments, whoever built them."""

from __future__ import annotations

import argparse
from typing import Any

from pytest_carthage.cli import target
from pytest_carthage.cli.usage import Usage


def add(commands: Any) -> None:
    """Add the command."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "rm",
        help="destroy an environment",
        description="Destroy live environments with all that is in them, kept or not. A name "
        "may be cut short as long as it tells one apart.",
    )
    parser.add_argument("names", metavar="NAME", nargs="*")
    parser.add_argument("--all", action="store_true", help="all kept environments of this user")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Destroy them; all names are looked up before the first one goes."""
    from pytest_carthage.state.run import destroy_environment, list_environments

    if bool(arguments.names) == arguments.all:
        raise Usage("name the environments to destroy, or give --all (see: pytest-carthage ls)")
    if arguments.all:
        names = [one.name for one in list_environments() if one.kept]
    else:
        names = [target.environment(name).name for name in arguments.names]
    for name in dict.fromkeys(names):
        destroy_environment(name)
        print(f"removed {name}")
    if not names:
        print("no environment is kept")
    return 0
