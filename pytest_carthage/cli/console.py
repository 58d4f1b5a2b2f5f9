"""``pytest-carthage console MACHINE``: its serial console on a terminal."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from pytest_carthage.cli import target, terminal
from pytest_carthage.cli.usage import Usage
from pytest_carthage.errors import CarthageError

#: what a terminal may be left with by what was printed: colours, and no cursor
_RESTORED = "\x1b[0m\x1b[?25h"
_ESCAPE = "^]"
_LINES = 24


def add(commands: Any) -> None:
    """Add the command."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "console",
        help="attach to a machine's serial console",
        description="Attach to the serial console of a live machine: what it printed last is "
        "shown first, and every key goes to it, until the one that detaches. Nothing ends with "
        "that, and others may be attached, too.",
    )
    target.add_machine(parser)
    parser.add_argument(
        "-e",
        "--escape",
        metavar="KEY",
        type=_key,
        default=_ESCAPE,
        help=f"the key that detaches (default: {_ESCAPE}, which is Ctrl and ])",
    )
    parser.add_argument(
        "-n",
        "--lines",
        type=_count,
        metavar="N",
        default=_LINES,
        help=f"lines that it printed last, to begin with (default: {_LINES})",
    )
    parser.set_defaults(run=run)


def _key(text: str) -> str:
    if len(text) != 2 or text[0] != "^" or not "@" <= text[1].upper() <= "_":
        raise argparse.ArgumentTypeError(f"{text!r} is no key like ^] or ^A")
    return text.upper()


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of lines")
    return int(text)


def run(arguments: argparse.Namespace) -> int:
    """Attach."""
    from pytest_carthage.channels.consoles import attach
    from pytest_carthage.errors import FabricError

    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise Usage(
            "console needs a terminal; what was printed is shown by: "
            f"pytest-carthage logs {arguments.machine}"
        )
    environment, machine = target.machine(arguments.machine)
    name = f"{environment.name}/{machine}"
    try:
        attached = attach(environment.folder, machine, lines=arguments.lines)
    except FabricError as error:
        kind = environment.machines[machine].get("target")
        raise CarthageError(
            f"environment {environment.name!r}: {error} (its target is {kind!r}); "
            f"try: pytest-carthage shell {name}, or pytest-carthage logs {name}"
        ) from error
    others = f", and {attached.others} more are attached" if attached.others else ""
    print(f"Console of {name}{others}; {arguments.escape} detaches.", file=sys.stderr)
    if not attached.is_connected:
        print("(the machine is off: it is shown when it comes back)", file=sys.stderr)
    escape = bytes([ord(arguments.escape[1]) - ord("@")])
    with attached.socket as console, terminal.raw():
        detached = terminal.join(console.fileno(), escape=escape)
        sys.stdout.write(f"{_RESTORED}\r\n")
        sys.stdout.flush()
    print(f"Detached from {name}." if detached else f"{name} is gone.", file=sys.stderr)
    return 0 if detached else 1
