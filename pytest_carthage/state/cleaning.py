"""Removal of what a dead run has left. Standard library only: supervisors do it, too."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_carthage import clock
from pytest_carthage.state import ending, journal, places, possession
from pytest_carthage.state.sweeping import Failed, Sweep

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

__all__ = ["JOURNAL", "Cleaning", "Collected", "dead_runs"]

#: of a run's folder
JOURNAL = "journal.jsonl"


@dataclass(slots=True)
class Collected:
    """What garbage collection has done: a line for each thing."""

    removed: list[str]
    #: what is left, with the reason
    failed: list[str]


def dead_runs(root: Path) -> list[Path]:
    """Folders of runs that nobody has and nobody uses; what was tried in vain is left to ``gc``.

    :param root: of the runs of one user.
    """
    return [
        folder
        for folder in sorted(root.iterdir())
        if not folder.name.startswith(".")
        and folder.is_dir()
        and not possession.is_alive(folder)
        and not possession.is_used(folder)
        and not any(journal.failures(journal.read(folder / JOURNAL)))
    ]


class Cleaning:
    """Removal of all that a dead run has left.

    :param environment: gives the environment that providers see; None: that of this process.
    """

    def __init__(
        self, folder: Path, environment: Callable[[], dict[str, str]] | None = None
    ) -> None:
        self._folder = folder
        self._environment = environment
        self._sweep: Sweep | None = None
        self._is_stopped = False

    def run(self) -> Collected:
        """Remove it, unless somebody else has the run's folder; what is left stays listed."""
        with possession.locked(self._folder) as is_ours:
            return self._run() if is_ours else Collected([], [])

    def stop(self) -> None:
        """End it early, from another thread."""
        self._is_stopped = True
        if self._sweep is not None:
            self._sweep.stop()

    def _run(self) -> Collected:
        path = self._folder / JOURNAL
        entries = journal.read(path)
        left = journal.outstanding(entries)
        run = places.run_id(self._folder) or next((i["run"] for i in left), "")
        log = self._folder / "supervisor.log"
        # without a name it is a question that was not answered
        outside = [identity for identity in left if identity["outside"] and identity["name"]]
        self._sweep = Sweep(
            outside, log, ask=run, kinds=_to_ask(path, entries), environment=self._environment
        )
        if self._is_stopped:
            self._sweep.stop()
        environments = self._environments(left)
        failed = ending.clean(run, self._folder, self._sweep, environments)
        removed = self._gone([*outside, *(journal.fabric(run, e) for e in environments)], failed)
        if failed:
            _note(path, left, failed)
        elif problem := ending.remove_run(self._folder):
            return Collected(removed, [f"folder of run {self._folder.name}: {problem}"])
        return Collected(
            removed if failed else removed or [f"folder of run {self._folder.name}"],
            [f"{journal.title(i)}: {error}; log: {log}" for i, error in failed],
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
        return [journal.title(i) for i in wanted if journal.thing(i) not in left]


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
