"""``pytest-carthage ansible``: Ansible's own programs, in a live layout."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from pytest_carthage.cli import plays, target
from pytest_carthage.cli.usage import Usage

#: those that take an inventory and are asked nothing while they run
_PROGRAMS = ("ansible", "ansible-playbook", "ansible-inventory")


def add(commands: Any) -> None:
    """Add the command."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "ansible",
        help="run Ansible in a live environment",
        description="Run ansible, ansible-playbook or ansible-inventory in a live environment: "
        "its machines are the inventory, plays work in the layout's networks and do not leave "
        "them. Without a program, ansible is meant: `pytest-carthage ansible -- all -m ping`.",
        usage="pytest-carthage ansible [-h] [NAME] -- [PROGRAM] ARGUMENT...",
    )
    parser.add_argument(
        "words",
        metavar="[NAME] -- [PROGRAM] ARGUMENT",
        nargs=argparse.REMAINDER,
        help="an environment's name (default: the only one), and what is to be run",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run it; returns its exit status."""
    name, program, words = _split(arguments.words)
    return plays.run(target.environment(name), program, words, near=Path.cwd())


def _split(typed: list[str]) -> tuple[str | None, str, list[str]]:
    """Environment, program and arguments of what was typed.

    :raises Usage: it makes no sense.
    """
    cut = typed.index("--") if "--" in typed else len(typed)
    names, words = typed[:cut], typed[cut + 1 :]
    if len(names) > 1 or not words:
        raise Usage(
            "what is to be run? try: pytest-carthage ansible [NAME] -- all -m ping, or "
            "pytest-carthage ansible [NAME] -- ansible-playbook site.yml"
        )
    program = "ansible"
    if words[0] in _PROGRAMS:
        program, *words = words
    elif words[0].startswith("ansible-"):
        raise Usage(
            f"{words[0]!r} is none of {', '.join(_PROGRAMS)}; it needs no machines, or asks "
            "questions: run it by itself, with the inventory of `pytest-carthage inventory`"
        )
    return (names[0] if names else None), program, words
