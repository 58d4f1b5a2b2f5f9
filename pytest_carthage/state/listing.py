"""Live environments of this user, as other processes find them."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_carthage import clock
from pytest_carthage.errors import StateError
from pytest_carthage.fabric.wire import client, frames
from pytest_carthage.state import places, possession
from pytest_carthage.state.sweeping import LIMIT_S

__all__ = [
    "Listed",
    "Listing",
    "alive_run",
    "destroy",
    "destroy_environment",
    "find_environment",
    "list_environments",
    "living_run",
    "look",
]

#: how long a supervisor may take to say what it has
_ANSWER_S = 5.0
#: how long a run that has nothing any more may take to end
ENDING_S = 15.0
_POLL_S = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """A live environment, as ``pytest-carthage ls`` shows it."""

    name: str
    run: str
    layout: str
    #: of the run; its supervisor listens there
    run_folder: Path
    folder: Path
    machines: Mapping[str, Mapping[str, Any]]
    created_at: float
    kept: bool
    #: UNIX time; None: never
    expires_at: float | None
    #: process that built it
    owner_pid: int
    #: whether its owner is still connected
    owned: bool
    description: Mapping[str, Any]

    @property
    def socket(self) -> Path:
        """Socket of its fabric, for :func:`pytest_carthage.fabric.wire.client.connect`."""
        return self.folder / "fabric.sock"


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """What there is, as far as supervisors tell."""

    #: the oldest first
    environments: tuple[Listed, ...]
    #: complaints about runs that are alive and do not answer, or not what is understood
    silent: tuple[str, ...]


def look() -> Listing:
    """Ask all supervisors of this user what they have.

    :raises OSError: there is no folder of runs that is this user's own.
    """
    environments: list[Listed] = []
    silent: list[str] = []
    for folder in sorted(places.runs_root().iterdir()):
        if not folder.is_dir() or not possession.is_alive(folder):
            continue
        try:
            with client.connect(str(folder / "supervisor.sock"), limit_s=_ANSWER_S) as supervisor:
                reply, _ = supervisor.request("list")
        except TimeoutError:
            silent.append(
                f"run {places.run_name(folder)!r}: its supervisor (process "
                f"{possession.owner(folder)}) has not answered for {_ANSWER_S:g} s; log: "
                f"{folder / 'supervisor.log'}; try: end that process, then pytest-carthage gc"
            )
            continue
        except (OSError, client.Refused, frames.Closed):
            continue  # it has just ended
        try:
            environments += [_listed(folder, row) for row in reply["environments"]]
        except (KeyError, TypeError, ValueError) as error:
            silent.append(
                f"run {places.run_name(folder)!r}: its supervisor (process "
                f"{possession.owner(folder)}) answers what is not understood here "
                f"({type(error).__name__}: {error}): it is of another version of pytest-carthage; "
                "try: pytest-carthage of the environment in which that was started"
            )
    return Listing(
        environments=tuple(sorted(environments, key=lambda environment: environment.created_at)),
        silent=tuple(silent),
    )


def _listed(folder: Path, row: Mapping[str, Any]) -> Listed:
    return Listed(
        name=row["name"],
        run=row["run"],
        layout=row.get("layout", "?"),
        run_folder=folder,
        folder=Path(row["folder"]),
        machines=row.get("machines", {}),
        created_at=row["created_at"],
        kept=bool(row.get("kept")),
        expires_at=row.get("expires_at"),
        owner_pid=row["owner_pid"],
        owned=row["owned"],
        description=row,
    )


def list_environments() -> list[Listed]:
    """All live environments of this user, oldest first."""
    return list(look().environments)


def find_environment(name: str | None) -> Listed:
    """The live environment of this name, or the only one where ``name`` is None.

    :raises StateError: there is none, or more than one; lists what there is.
    """
    there = list_environments()
    names = ", ".join(environment.name for environment in there) or "none"
    if name is None:
        if len(there) == 1:
            return there[0]
        raise StateError(f"which environment? alive are: {names}; name it as ENVIRONMENT/MACHINE")
    for begins in (
        [environment for environment in there if environment.name == name],
        [environment for environment in there if environment.run == name],
        [environment for environment in there if environment.name.startswith(name)],
    ):
        if len(begins) == 1:
            return begins[0]
        if begins:
            several = ", ".join(
                f"{environment.name} (run {environment.run})" for environment in begins
            )
            raise StateError(f"environment {name!r}: several are meant: {several}")
    raise StateError(f"no environment {name!r} is alive; there are: {names}")


def destroy_environment(name: str) -> None:
    """Destroy a live environment, whoever built it.

    :raises StateError: there is none of this name, or something of it is left.
    """
    destroy(find_environment(name))


def destroy(environment: Listed) -> None:
    """Destroy a live environment, whoever built it.

    :raises StateError: something of it is left, or its supervisor does not answer.
    """
    socket = str(environment.run_folder / "supervisor.sock")
    try:
        with client.connect(socket, limit_s=LIMIT_S + 60) as supervisor:
            reply, _ = supervisor.request("destroy", environment=environment.name)
    except (OSError, client.Refused, frames.Closed) as error:
        raise StateError(
            f"environment {environment.name!r}: its supervisor does not answer: {error}; "
            "try: pytest-carthage gc"
        ) from error
    refuse_leftovers(environment.name, reply["failed"])


def refuse_leftovers(environment: str, failed: list[tuple[Mapping[str, Any], str]]) -> None:
    """Complain of what a supervisor says that it could not destroy.

    :raises StateError: there is any.
    """
    if not failed:
        return
    lines = "".join(f"\n  {one['kind']} {one['name']}: {error}" for one, error in failed)
    raise StateError(
        f"environment {environment!r}: something of it could not be destroyed:{lines}\n"
        "it is listed by pytest-carthage ls; try again with: pytest-carthage gc"
    )


def alive_run(name: str) -> bool:
    """Whether a run of this name has a living supervisor."""
    root = places.state_root() / "runs"
    return any(map(possession.is_alive, places.run_folders(root, name)))


def living_run(name: str) -> Sequence[str] | None:
    """Environments of a run of this name; None: there is none, or it has ended by now.

    A run whose last environment is gone is waited for: its supervisor is about to end. One
    that has none and does not end in :data:`ENDING_S` seconds gives an empty sequence.
    """
    deadline = clock.monotonic_s() + ENDING_S
    while alive_run(name):
        there = [each.name for each in list_environments() if each.run == name]
        if there or clock.monotonic_s() > deadline:
            return there
        time.sleep(_POLL_S)
    return None
