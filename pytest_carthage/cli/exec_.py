"""``pytest-carthage exec MACHINE -- COMMAND``: one command, on our own standard streams."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from pytest_carthage.cli import target
from pytest_carthage.cli.usage import Usage


def add(commands: Any) -> None:
    """Add the command."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "exec",
        help="run a command in a machine",
        description="Run a command in a live machine: standard input, output, errors, signals "
        "and the exit status pass through (128 and the signal's number where one killed it).",
    )
    target.add_machine(parser)
    parser.add_argument("-u", "--user", metavar="USER", help="who runs it (default: root)")
    parser.add_argument("-C", "--cwd", metavar="DIR", help="working folder (default: the home)")
    parser.add_argument(
        "-e", "--env", metavar="NAME=VALUE", action="append", default=[], help="set a variable"
    )
    parser.add_argument("-t", "--tty", action="store_true", help="give it a terminal")
    parser.add_argument("command", metavar="COMMAND", nargs=argparse.REMAINDER)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run it; returns its exit status."""
    from pytest_carthage.cli.command import (
        CannotRun,
        exit_status,
        run_on_streams,
        run_on_terminal,
    )

    command = list(arguments.command)
    if command[:1] == ["--"]:
        del command[0]
    if not command:
        raise Usage(f"which command? try: pytest-carthage exec {arguments.machine} -- COMMAND")
    env = {}
    for text in arguments.env:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise Usage(f"--env {text}: write NAME=VALUE")
        env[name] = value
    if arguments.tty and not sys.stdin.isatty():
        raise Usage("--tty needs a terminal; leave it out")
    environment, machine = target.machine(arguments.machine)
    start = run_on_terminal if arguments.tty else run_on_streams
    with target.connect(environment, machine) as client:
        try:
            status = start(client, command, user=arguments.user, cwd=arguments.cwd, env=env)
        except CannotRun as error:
            if error.status is None:
                raise
            print(f"pytest-carthage: {error}", file=sys.stderr)
            return error.status
        return exit_status(status)
