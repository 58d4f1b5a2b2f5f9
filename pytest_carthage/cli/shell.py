"""``pytest-carthage shell MACHINE``: a shell on a terminal."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from pytest_carthage.cli import target
from pytest_carthage.cli.usage import Usage


def add(commands: Any) -> None:
    """Add the command."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "shell", help="open a shell in a machine", description="Open a shell in a live machine."
    )
    target.add_machine(parser)
    parser.add_argument("-u", "--user", metavar="USER", help="who runs it (default: root)")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Open it; returns its exit status."""
    from pytest_carthage.cli.command import SHELL, exit_status, run_on_terminal

    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise Usage(
            "shell needs a terminal; for a script: "
            f"pytest-carthage exec {arguments.machine} -- COMMAND"
        )
    environment, machine = target.machine(arguments.machine)
    with target.connect(environment, machine) as client:
        return exit_status(run_on_terminal(client, SHELL, user=arguments.user))
