"""What dead runs have left, and what could not be destroyed when its time had come."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_carthage import clock
from pytest_carthage.fabric.wire import client, frames
from pytest_carthage.state import ending, journal, places, starting
from pytest_carthage.state.entries import from_entry
from pytest_carthage.state.sweeping import LIMIT_S, Failed, Sweep

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from pytest_carthage.provider import Identity

__all__ = ["Cleaning", "Collected", "Leftover", "collect_garbage", "leftovers"]

_JOURNAL = "journal.jsonl"


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
        return _name(self.identity)


def _name(identity: Identity) -> str:
    if identity.kind == "fabric":
        return f"environment {identity.environment}"
    if not identity.name:
        return f"whatever target {identity.kind!r} knows of"
    return str(identity)


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
    is_alive = starting.is_alive(folder)
    entries = journal.read(folder / _JOURNAL)
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


@dataclass(slots=True)
class Collected:
    """What garbage collection has done: a line for each thing."""

    removed: list[str]
    #: what is left, with the reason
    failed: list[str]


def collect_garbage() -> Collected:
    """Remove what runs have left that are dead, and try again what could not be destroyed.

    :raises OSError: there is no folder of runs that is this user's own.
    """
    collected = Collected([], [])
    for folder in _run_folders():
        done = _retry(folder) if starting.is_alive(folder) else Cleaning(folder).run()
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


class Cleaning:
    """Removal of all that a dead run has left."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._sweep: Sweep | None = None
        self._is_stopped = False

    def run(self) -> Collected:
        """Remove it, unless somebody else has the run's folder; what is left stays listed."""
        with starting.locked(self._folder) as is_ours:
            return self._run() if is_ours else Collected([], [])

    def stop(self) -> None:
        """End it early, from another thread."""
        self._is_stopped = True
        if self._sweep is not None:
            self._sweep.stop()

    def _run(self) -> Collected:
        path = self._folder / _JOURNAL
        entries = journal.read(path)
        left = journal.outstanding(entries)
        run = places.run_id(self._folder) or next((i["run"] for i in left), "")
        log = self._folder / "supervisor.log"
        # without a name it is a question that was not answered
        outside = [identity for identity in left if identity["outside"] and identity["name"]]
        self._sweep = Sweep(outside, log, ask=run, kinds=_to_ask(path, entries))
        if self._is_stopped:
            self._sweep.stop()
        environments = self._environments(left)
        failed = ending.clean(run, self._folder, self._sweep, environments)
        removed = self._gone([*outside, *(journal.fabric(run, e) for e in environments)], failed)
        if failed:
            _note(path, left, failed)
        elif problem := ending.remove_folder(self._folder):
            return Collected(removed, [f"folder of run {self._folder.name}: {problem}"])
        return Collected(
            removed if failed else removed or [f"folder of run {self._folder.name}"],
            [f"{_name(from_entry(i))}: {error}; log: {log}" for i, error in failed],
        )

    def _environments(self, left: Sequence[journal.Entry]) -> list[str]:
        names = {identity["environment"] for identity in left}
        envs = self._folder / "envs"
        if envs.is_dir():
            names |= {path.name for path in envs.iterdir()}
        return sorted(names - {""})

    def _gone(self, wanted: Sequence[journal.Entry], failed: Sequence[Failed]) -> list[str]:
        left = {journal.thing(identity) for identity, _ in failed}
        # of an environment that somebody still needs, the folder stays
        left |= {journal.thing(journal.fabric(i["run"], i["environment"])) for i, _ in failed}
        return [_name(from_entry(i)) for i in wanted if journal.thing(i) not in left]


def _to_ask(path: Path, entries: Sequence[journal.Entry]) -> list[str] | None:
    """Kinds of providers that may know of more than the journal; None: all."""
    if journal.is_damaged(path):
        return None
    return sorted({e["identity"]["kind"] for e in entries if e["identity"]["outside"]})


def _note(path: Path, left: Sequence[journal.Entry], failed: Sequence[Failed]) -> None:
    """Tell the journal of a dead run what is gone, and what is not."""
    things = {journal.thing(identity) for identity in left}
    still = {journal.thing(identity) for identity, _ in failed}
    book = journal.Journal(path)
    try:
        for identity in left:
            if journal.thing(identity) not in still:
                book.write("destroyed", identity)
        for identity, error in failed:
            if journal.thing(identity) not in things:
                book.write("intent", identity)
            book.write("failed", identity, error=error, at=clock.unix_s())
    finally:
        book.close()
