"""What dead runs have left, and what could not be destroyed when its time had come."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_carthage.fabric.wire import client, frames
from pytest_carthage.state import journal, places, possession
from pytest_carthage.state.cleaning import JOURNAL, Cleaning, Collected
from pytest_carthage.state.entries import as_entry, from_entry
from pytest_carthage.state.sweeping import LIMIT_S

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pytest_carthage.provider import Identity

__all__ = ["Leftover", "collect_garbage", "leftovers"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Leftover:
    """Something that exists, or may exist, although its environment is gone."""

    identity: Identity
    #: name of the run
    run: str
    #: of the run, with the journal and ``supervisor.log``
    folder: Path
    #: of the last try to destroy it; empty: it was not tried yet
    error: str
    #: UNIX time of the last try
    tried_at: float | None
    tries: int

    @property
    def name(self) -> str:
        """What it is called, as in ``cloud ci-shop/web (id=i-3f2a)``."""
        return journal.title(as_entry(self.identity))


def leftovers() -> list[Leftover]:
    """What of all runs of this user is left to be destroyed; nothing is changed by looking.

    :raises OSError: there is no folder of runs that is this user's own.
    """
    return [left for folder in _run_folders() for left in _left_in(folder)]


def _run_folders() -> list[Path]:
    if not (places.state_root() / "runs").exists():
        return []
    folders = [path for path in places.runs_root().iterdir() if path.is_dir()]
    return sorted(folders, key=lambda path: path.name)


def _left_in(folder: Path) -> Iterator[Leftover]:
    is_alive = possession.is_alive(folder)
    entries = journal.read(folder / JOURNAL)
    failed = {journal.thing(failure.identity): failure for failure in journal.failures(entries)}
    for identity in journal.outstanding(entries):
        failure = failed.get(journal.thing(identity))
        # what lives belongs to a run that lives
        if failure is not None or (identity["outside"] and not is_alive):
            yield Leftover(
                identity=from_entry(identity),
                run=places.run_name(folder),
                folder=folder,
                error=failure.error if failure is not None else "",
                tried_at=failure.at if failure is not None else None,
                tries=failure.tries if failure is not None else 0,
            )


def collect_garbage() -> Collected:
    """Remove what runs have left that are dead, and try again what could not be destroyed.

    :raises OSError: there is no folder of runs that is this user's own.
    """
    collected = Collected([], [])
    for folder in _run_folders():
        done = _retry(folder) if possession.is_alive(folder) else Cleaning(folder).run()
        collected.removed += done.removed
        collected.failed += done.failed
    return collected


def _retry(folder: Path) -> Collected:
    """Have a run that is alive try again what it could not destroy."""
    before = list(_left_in(folder))
    if not before:
        return Collected([], [])
    try:
        with client.connect(str(folder / "supervisor.sock"), limit_s=LIMIT_S + 60) as supervisor:
            supervisor.request("retry")
    except (OSError, client.Refused, frames.Closed) as error:
        return Collected([], [f"{left.name}: its run does not answer: {error}" for left in before])
    after = {left.name: left for left in _left_in(folder)}
    return Collected(
        [left.name for left in before if left.name not in after],
        [f"{left.name}: {left.error}; log: {folder / 'supervisor.log'}" for left in after.values()],
    )
