"""Times of earlier runs: kept, merged, and no trouble when they are lost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_carthage.events import Event, Kind
from pytest_carthage.state import timings
from pytest_carthage.state.timings import Stopwatch


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CARTHAGE_STATE", str(tmp_path / "state"))
    return tmp_path / "state"


def ended(
    subject: str,
    seconds: float | None,
    *,
    kind: Kind = "done",
    environment: str = "e",
    at: float = 1,
) -> Event:
    return Event(at_s=at, environment=environment, subject=subject, kind=kind, duration_s=seconds)


def timed(name: str, *seconds: float, key: str = "", at: float = 1) -> None:
    """Runs in which something took so long."""
    for one in seconds:
        stopwatch = Stopwatch()
        stopwatch.watch("e", "web", name=name, key=key)
        stopwatch.event(ended("web", one, at=at))
        stopwatch.save()


def test_only_what_is_watched_and_done_is_kept() -> None:
    stopwatch = Stopwatch()
    stopwatch.watch("e", "web", name="Shop.web", key="k1")
    stopwatch.watch("e", "db", name="Shop.db")
    for event in (
        ended("web", 2.0),
        ended("db", 3.0, kind="failed"),
        ended("db", None),
        ended("other", 4.0),
        ended("web", 5.0, environment="another"),
    ):
        stopwatch.event(event)
    stopwatch.save()
    known = timings.read()
    assert list(known) == ["Shop.web"]
    assert known["Shop.web"].seconds == (2.0,)
    assert known["Shop.web"].key == "k1"


def test_expected_is_the_median_of_the_last_runs() -> None:
    timed("Shop.web", 100, 100, 100, 3, 1, 2, 60, 2)
    assert timings.read()["Shop.web"].seconds == (2, 60, 2, 1, 3)
    assert timings.read()["Shop.web"].expected_s == 2


def test_key_is_that_of_the_last_run() -> None:
    timed("stage", 1, key="old")
    timed("stage", 1, key="new")
    assert timings.read()["stage"].key == "new"


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"a": 1}', '{"a": {"seconds": ["x"], "key": "", "at": 1}}', "null"]
)
def test_damaged_file_is_as_none_and_is_written_anew(root: Path, text: str) -> None:
    root.mkdir()
    (root / "timings.json").write_text(text)
    assert timings.read() == {}
    timed("Shop.web", 1)
    assert list(timings.read()) == ["Shop.web"]


def test_what_cannot_be_written_is_no_error(root: Path) -> None:
    root.write_text("a file in the way")
    timed("Shop.web", 1)
    assert timings.read() == {}


def test_nothing_found_writes_nothing(root: Path) -> None:
    Stopwatch().save()
    assert not root.exists()


def test_oldest_go_when_there_are_too_many(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timings, "_MOST", 2)
    for number in range(4):
        timed(f"m{number}", 1, at=number)
    assert set(timings.read()) == {"m2", "m3"}


_PROCESS = """
import sys
from pytest_carthage.events import Event
from pytest_carthage.state.timings import Stopwatch
for number in range(20):
    stopwatch = Stopwatch()
    name = f"{sys.argv[1]}-{number}"
    stopwatch.watch("e", "m", name=name)
    stopwatch.event(Event(at_s=1, environment="e", subject="m", kind="done", duration_s=1.0))
    stopwatch.save()
"""


def test_several_processes_at_once_lose_nothing(root: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    processes = [
        subprocess.Popen([sys.executable, "-c", _PROCESS, str(number)], env=environment)
        for number in range(4)
    ]
    assert [process.wait(60) for process in processes] == [0] * 4
    assert len(timings.read()) == 80
    assert sorted(path.name for path in root.iterdir()) == ["timings.json", "timings.lock"]
    json.loads((root / "timings.json").read_text())
