"""``pytest-carthage rm NAME``: destroy environments, whoever built them."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from pytest_carthage.cli import target
from pytest_carthage.cli.usage import Usage
from pytest_carthage.errors import StateError


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
    from pytest_carthage.state.listing import destroy, list_environments

    if bool(arguments.names) == arguments.all:
        raise Usage("name the environments to destroy, or give --all (see: pytest-carthage ls)")
    if arguments.all:
        environments = [environment for environment in list_environments() if environment.kept]
    else:
        environments = [target.environment(name) for name in arguments.names]
    status = 0
    for environment in {environment.folder: environment for environment in environments}.values():
        try:
            destroy(environment)
        except StateError as error:
            print(f"pytest-carthage: {error}", file=sys.stderr)
            status = 1
        else:
            print(f"removed {environment.name}")
    if not environments:
        print("no environment is kept")
    return status
