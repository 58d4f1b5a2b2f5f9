"""Ansible's programs, run in a live environment."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_carthage.errors import CarthageError

if TYPE_CHECKING:
    from pytest_carthage.live.openings.handover import Handover
    from pytest_carthage.state.listing import Listed
    from pytest_carthage.work.ansible.station import Station

__all__ = ["run"]


def run(environment: Listed, program: str, words: Sequence[str], *, near: Path) -> int:
    """Run one of Ansible's programs in the networks of an environment; returns its exit status.

    :param words: its arguments, without an inventory.
    :param near: folder in which Ansible looks for its configuration.
    :raises CarthageError: it cannot be run there.
    """
    from pytest_carthage.live.openings.handover import take_up
    from pytest_carthage.work.ansible.installation import find_program

    handover = take_up(environment.name, environment.folder)
    command, env = _command(find_program(program), words, environment, handover, near)
    station = _station(environment, handover)
    try:
        return _wait_for([*station.command(env), *command], env, station)
    finally:
        for fd in station.descriptors:
            os.close(fd)


def _command(
    program: str, words: Sequence[str], environment: Listed, handover: Handover, near: Path
) -> tuple[list[str], dict[str, str]]:
    """The command with its inventories, the layout's last, and its environment."""
    from pytest_carthage.work.ansible.installation import find_config, make_env
    from pytest_carthage.work.ansible.inventory import set_interpreters
    from pytest_carthage.work.ansible.record import write_record
    from pytest_carthage.work.ansible.running import find_interpreters
    from pytest_carthage.work.ansible.settings import Settings

    work = environment.folder / "ansible"
    config, _ = find_config(near / "playbook")
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


def _wait_for(command: list[str], env: dict[str, str], station: Station) -> int:
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
