"""How long machines and stages took in earlier runs, and what they were then.

One small JSON file beside the runs. Several processes may end at the same time: each adds its own
under a lock. A file that cannot be read is as none.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import statistics
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_carthage.state import places

if TYPE_CHECKING:
    from pytest_carthage.events import Event
    from pytest_carthage.model.stage import Stage
    from pytest_carthage.planning.plan import PlannedMachine

__all__ = ["Stopwatch", "Timing", "machine_id", "read", "stage_id"]

_NAME = "timings.json"
#: of how many runs the time is kept
_RUNS = 5
#: what was not seen for longest goes first
_MOST = 5000


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """What is known of one machine or stage."""

    #: of the last runs, the newest first
    seconds: tuple[float, ...]
    #: content key of the last run; empty: it has none
    key: str
    #: end of the last run, seconds since the epoch
    at: float

    @property
    def expected_s(self) -> float:
        """What it is likely to take."""
        return statistics.median(self.seconds)


def machine_id(layout: type, machine: PlannedMachine) -> str:
    """What a machine's time is kept as.

    :param layout: the layout's class.
    """
    module = sys.modules.get(layout.__module__)
    file = getattr(module, "__file__", None) or layout.__module__
    return f"{file}::{layout.__name__}.{machine.name} on {machine.target}"


def stage_id(stage: Stage) -> str:
    """What a stage's time is kept as."""
    return f"{Path(stage.place.file).absolute()}::{stage.name}"


def read() -> Mapping[str, Timing]:
    """All that is known."""
    return _read(places.state_root() / _NAME)


def _read(path: Path) -> dict[str, Timing]:
    timings = {}
    try:
        for name, row in json.loads(path.read_text()).items():
            seconds = tuple(float(one) for one in row["seconds"][:_RUNS])
            if seconds:
                timings[name] = Timing(seconds=seconds, key=str(row["key"]), at=float(row["at"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
    return timings


class Stopwatch:
    """A reporter that takes the time of what it was told to watch."""

    def __init__(self) -> None:
        #: environment and subject of events to what their time is kept as, and the content key
        self._watched: dict[tuple[str, str], tuple[str, str]] = {}
        self._found: dict[str, Timing] = {}

    def watch(self, environment: str, subject: str, *, name: str, key: str = "") -> None:
        """Take the time of a subject.

        :param name: what it is kept as, see :func:`machine_id` and :func:`stage_id`.
        :param key: content key, by which it is seen later whether it has changed.
        """
        self._watched[environment, subject] = name, key

    def event(self, event: Event, /) -> None:
        """Take in one event."""
        watched = self._watched.get((event.environment, event.subject))
        if watched is None or event.kind != "done" or event.duration_s is None:
            return
        name, key = watched
        self._found[name] = Timing(seconds=(event.duration_s,), key=key, at=event.at_s)

    def save(self) -> None:
        """Add what was found to what is known; where that fails, nothing is added."""
        if not self._found:
            return
        found, self._found = self._found, {}
        with contextlib.suppress(OSError):
            _add(places.own_folder() / _NAME, found)


def _add(path: Path, found: Mapping[str, Timing]) -> None:
    with _locked(path):
        timings = _read(path)
        for name, new in found.items():
            old = timings.get(name)
            more = old.seconds if old is not None else ()
            timings[name] = Timing(seconds=(*new.seconds, *more)[:_RUNS], key=new.key, at=new.at)
        newest = sorted(timings.items(), key=lambda item: -item[1].at)[:_MOST]
        _write(path, {name: _row(timing) for name, timing in newest})


def _row(timing: Timing) -> dict[str, Any]:
    seconds = [round(one, 3) for one in timing.seconds]
    return {"seconds": seconds, "key": timing.key, "at": round(timing.at, 3)}


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.with_suffix(".lock").open("a") as file:
        # whoever has it writes a small file, and that is all
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _write(path: Path, rows: Mapping[str, Any]) -> None:
    new = path.with_name(f"{path.name}.{os.getpid()}.new")
    try:
        new.write_text(json.dumps(rows, indent=1))
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)
