"""From what a person typed to a live environment or machine."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from pytest_carthage.cli.usage import Usage, similar
from pytest_carthage.errors import CarthageError, StateError

if TYPE_CHECKING:
    from pytest_carthage.fabric.wire.client import Client
    from pytest_carthage.state.listing import Listed

__all__ = ["add_environment", "add_machine", "connect", "environment", "environments", "machine"]

_HINT = "see `pytest-carthage ls`, or build one with `pytest-carthage up PATH.py:Class`"


def add_machine(parser: argparse.ArgumentParser) -> None:
    """Add the argument MACHINE."""
    parser.add_argument(
        "machine", metavar="MACHINE", help="a machine's name, or ENVIRONMENT/MACHINE"
    )


def add_environment(parser: argparse.ArgumentParser, default: str) -> None:
    """Add the argument NAME of an environment.

    :param default: which is meant where none is named.
    """
    parser.add_argument(
        "environment", metavar="NAME", nargs="?", help=f"an environment's name (default: {default})"
    )


def environments() -> list[Listed]:
    """All live environments.

    :raises Usage: there is none.
    """
    from pytest_carthage.state.listing import list_environments

    alive = list_environments()
    if not alive:
        raise Usage(f"no environment is alive; {_HINT}")
    return alive


def environment(name: str | None) -> Listed:
    """Find a live environment; the only one where no name is given.

    :raises Usage: there is none, or several are meant.
    """
    from pytest_carthage.state.listing import find_environment

    alive = environments()
    try:
        return find_environment(name)
    except StateError as error:
        raise Usage(f"{error}{similar(name or '', (one.name for one in alive))}") from error


def machine(text: str) -> tuple[Listed, str]:
    """Find a machine of a live environment: the environment and the machine's name.

    :raises Usage: there is none, or several are meant.
    """
    where, slash, name = text.rpartition("/")
    if slash:
        named = environment(where)
        if name not in named.machines:
            raise Usage(_unknown(name, named))
        return named, name
    from pytest_carthage.state.listing import list_environments

    alive = list_environments()
    if not alive:
        raise Usage(f"machine {name!r}: no environment is alive; {_HINT}")
    having = [candidate for candidate in alive if name in candidate.machines]
    if len(having) == 1:
        return having[0], name
    if having:
        several = ", ".join(f"{candidate.name}/{name}" for candidate in having)
        raise Usage(f"machine {name!r}: which one? there are: {several}")
    if len(alive) == 1:
        raise Usage(_unknown(name, alive[0]))
    near = similar(name, (other for candidate in alive for other in candidate.machines))
    every = ", ".join(
        f"{candidate.name}/{other}" for candidate in alive for other in candidate.machines
    )
    raise Usage(f"no machine {name!r} is alive; there are: {every}{near}")


def _unknown(name: str, environment: Listed) -> str:
    names = ", ".join(environment.machines) or "none"
    near = similar(name, environment.machines)
    return (
        f"environment {environment.name!r} has no machine {name!r}; its machines are: {names}{near}"
    )


def connect(environment: Listed, machine: str) -> Client:
    """Connect to a machine's agent.

    :raises CarthageError: it does not answer.
    """
    from pytest_carthage.fabric.wire import client, frames

    try:
        return client.connect(str(environment.socket), machine)
    except (OSError, client.Refused, frames.Closed) as error:
        raise CarthageError(
            f"machine {machine!r} of environment {environment.name!r} does not answer: {error}; "
            f"try: pytest-carthage logs {environment.name}/{machine}"
        ) from error
