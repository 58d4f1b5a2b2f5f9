"""Where bundles stand, and their summaries; whole bundles are tested with the plugin."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from pytest_carthage.events import Event, Recorder
from pytest_carthage.handles.printed import Printed
from pytest_carthage.report.bundle import Bundle, Failure, Shelf, folder_name, prune
from tests.report.bundle.observed import Observed, ObservedMachine


@pytest.mark.parametrize(
    ("test", "name"),
    [
        ("test_shop.py::test_buy", "test_shop.py.test_buy"),
        ("tests/web/test_shop.py::TestCart::test_buy", "tests.web.test_shop.py.TestCart.test_buy"),
        ("test_shop.py::test_buy[till-3]", "test_shop.py.test_buy[till-3]"),
    ],
)
def test_folder_is_named_after_the_test(test: str, name: str) -> None:
    assert folder_name(test) == name


@pytest.mark.parametrize(
    "test", ["t.py::test[a/../../b]", "t.py::test[ü]", "t.py::test[ ]", "t.py::" + "x" * 500]
)
def test_folder_name_is_safe_and_one_tests_own(test: str) -> None:
    name = folder_name(test)
    assert "/" not in name
    assert len(name) < 200
    assert name != folder_name(test + "[other]")
    assert name != folder_name(test.replace("[", "[/", 1) + "/")


def test_tests_that_differ_in_odd_characters_have_folders_of_their_own() -> None:
    names = {folder_name(f"t.py::test[{odd}]") for odd in ("a b", "a:b", "a/b", "a.b", "a-b")}
    assert len(names) == 5


def test_prune_leaves_the_newest_and_the_young(tmp_path: Path) -> None:
    now = time.time()
    for number, age_s in enumerate((10, 7200, 7300, 7400, 20)):
        folder = tmp_path / f"run{number}"
        folder.mkdir()
        (folder / "summary.json").write_text("{}")
        os.utime(folder, (now - age_s, now - age_s))
    prune(tmp_path, keep=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run0", "run4"]
    prune(tmp_path, keep=0)
    assert len(list(tmp_path.iterdir())) == 2
    prune(tmp_path / "none", keep=0)


async def _collect(shelf: Shelf, test: str) -> Path:
    failure = Failure(
        test=test, phase="call", began_s=1.0, ended_s=2.0, error="E   assert 0\nat x", run="r"
    )
    return (await shelf.collect(failure, [], Recorder())).folder


def test_folder_of_an_earlier_session_is_replaced(tmp_path: Path) -> None:
    old = tmp_path / "t.py.test_it"
    old.mkdir()
    (old / "stale.txt").write_text("from yesterday")
    shelf = Shelf(tmp_path)
    folder = asyncio.run(_collect(shelf, "t.py::test_it"))
    assert folder == old
    assert sorted(path.name for path in folder.iterdir()) == [
        "error.txt",
        "events.txt",
        "summary.json",
        "summary.txt",
    ]
    (folder / "mine.txt").write_text("from this session")
    asyncio.run(_collect(shelf, "t.py::test_it"))
    assert (folder / "mine.txt").exists()


FAILURE = Failure(
    test="t.py::test_buy",
    phase="call",
    began_s=100.0,
    ended_s=160.0,
    error=">   assert sold\nE   assert False",
    run="run",
)


def collected(
    shelf: Shelf, environments: Sequence[Observed], *, former: Sequence[str] = (), **limits: float
) -> tuple[Path, dict[str, Any]]:
    recorder = Recorder()
    for environment in ("run-shop", "run-other"):
        recorder.event(
            Event(at_s=101.0, environment=environment, subject="web", kind="note", text="up")
        )

    async def collect() -> Bundle:
        return await shelf.collect(FAILURE, environments, recorder, former=former, **limits)

    folder = asyncio.run(collect()).folder
    return folder, json.loads((folder / "summary.json").read_text())


def test_summary_says_what_failed_and_what_there_is(tmp_path: Path) -> None:
    web = ObservedMachine("web")
    folder, summary = collected(Shelf(tmp_path), [Observed(tmp_path / "logs", web)])
    assert folder == tmp_path / "t.py.test_buy"
    assert {name: summary[name] for name in ("format", "test", "phase", "run", "error")} == {
        "format": 1,
        "test": "t.py::test_buy",
        "phase": "call",
        "run": "run",
        "error": "assert False",
    }
    assert summary["began"] < summary["ended"]
    assert summary["environments"]["run-shop"]["machines"]["web"]["live"] is True
    assert (folder / "error.txt").read_text() == FAILURE.error + "\n"
    (line,) = (folder / "events.txt").read_text().splitlines()
    assert line.endswith("  run-shop: web: up")


def test_environment_that_is_gone_is_as_it_was_foreseen(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    environment = Observed(tmp_path / "logs", ObservedMachine("web"))
    asyncio.run(shelf.foresee("t.py::test_buy", environment, since_s=0.0))
    folder, summary = collected(shelf, [], former=["run-shop", "run-unknown"])
    assert list(summary["environments"]) == ["run-shop"]
    assert (folder / "run-shop/web/log.txt").read_text() == "started\n"


def test_environment_that_takes_too_long_is_named_as_missing(tmp_path: Path) -> None:
    stopped: list[str] = []

    class Stuck(ObservedMachine):
        async def printed(self, since: int = 0) -> Printed:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                stopped.append(self.name)
                raise
            return Printed(text="")

    began = time.monotonic()
    environment = Observed(tmp_path / "logs", Stuck("web"))
    _, summary = collected(Shelf(tmp_path), [environment], timeout_s=0.05)
    assert time.monotonic() - began < 30
    assert stopped == ["web"]
    assert summary["environments"] == {
        "run-shop": {"missing": "not all could be collected in 0.05 s"}
    }


def test_environment_that_cannot_be_looked_at_is_named_as_missing(tmp_path: Path) -> None:
    class Broken(Observed):
        def handles(self) -> Sequence[ObservedMachine]:
            raise LookupError("no fabric\nany more")

    _, summary = collected(Shelf(tmp_path), [Broken(tmp_path / "logs")])
    assert summary["environments"] == {"run-shop": {"missing": "LookupError: no fabric"}}
