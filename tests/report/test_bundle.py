"""Names and lifetimes of bundles' folders; whole bundles are tested with the plugin."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from pytest_carthage.report.bundle import Failure, Shelf, folder_name, prune
from pytest_carthage.report.events import Recorder


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
    return await shelf.collect(failure, [], Recorder())


def test_folder_of_an_earlier_session_is_replaced(tmp_path: Path) -> None:
    import asyncio

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
    ]
    (folder / "mine.txt").write_text("from this session")
    asyncio.run(_collect(shelf, "t.py::test_it"))
    assert (folder / "mine.txt").exists()
