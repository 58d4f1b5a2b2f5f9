"""``pytest-carthage ansible``: Ansible's own programs, in a live layout."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_carthage.cli import target
from pytest_carthage.cli.usage import Usage
from pytest_carthage.errors import CarthageError

if TYPE_CHECKING:
    from pytest_carthage.live.openings.handover import Handover
    from pytest_carthage.state.listing import Listed
    from pytest_carthage.work.ansible.station import Station

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
    from pytest_carthage.live.openings.handover import take_up
    from pytest_carthage.work.ansible.installation import find_program

    name, program, words = _split(arguments.words)
    environment = target.environment(name)
    handover = take_up(environment.name, environment.folder)
    command, env = _command(find_program(program), words, environment, handover)
    station = _station(environment, handover)
    try:
        return _run([*station.command(env), *command], env, station)
    finally:
        for fd in station.descriptors:
            os.close(fd)


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


def _command(
    program: str, words: list[str], environment: Listed, handover: Handover
) -> tuple[list[str], dict[str, str]]:
    """The command with its inventories, the layout's last, and its environment."""
    from pytest_carthage.work.ansible.installation import find_config, make_env
    from pytest_carthage.work.ansible.inventory import set_interpreters
    from pytest_carthage.work.ansible.record import write_record
    from pytest_carthage.work.ansible.running import find_interpreters
    from pytest_carthage.work.ansible.settings import Settings

    work = environment.folder / "ansible"
    config, _ = find_config(Path.cwd() / "playbook")
    env = make_env(config, work, len(environment.machines))
    settings = Settings(config, env)
    inventory = dict(handover.inventory)
    if settings.interpreter is None:
        set_interpreters(inventory, find_interpreters(environment.socket, environment.machines))
    file = work / "command.carthage.json"
    write_record(file, inventory, "variables of the layout's machines")
    if sys.stdout.isatty() and "NO_COLOR" not in os.environ:
        env |= {"ANSIBLE_NOCOLOR": "0", "ANSIBLE_FORCE_COLOR": "1"}
    sources = [str(source) for source in settings.inventory]
    options = [option for source in (*sources, str(file)) for option in ("--inventory", source)]
    return [program, *words, *options], env


def _station(environment: Listed, handover: Handover) -> Station:
    from pytest_carthage.fabric.wire.client import Refused

    try:
        station = handover.open_station(is_owned=environment.owned)
    except (OSError, Refused) as error:
        raise CarthageError(
            f"environment {environment.name!r}: plays cannot enter its networks: {error}"
        ) from error
    if station.network < 0:
        print(
            f"pytest-carthage: {environment.name!r} belongs to tests that still run: machines are "
            "reached, but what a play does on this computer is on no network",
            file=sys.stderr,
        )
    return station


def _run(command: list[str], env: dict[str, str], station: Station) -> int:
    """Run it to its end; interrupted, all of it ends."""
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,  # it ends when this is closed, whatever becomes of us
        env=env,
        pass_fds=station.descriptors,
        start_new_session=True,
    )
    assert process.stdin is not None
    try:
        return process.wait()
    finally:
        process.stdin.close()
        process.wait()
