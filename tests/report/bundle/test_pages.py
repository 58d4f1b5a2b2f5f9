"""Files of a bundle, and what could not be had."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from pytest_carthage.report.bundle.pages import Pages


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_pages_are_their_owners_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        pages = Pages(tmp_path / "web")
        assert not pages.folder.exists()
        pages.text("log.txt", lambda: "started\n")
        pages.json("observed.json", lambda: {"addresses": []})
    finally:
        os.umask(before)
    assert mode(pages.folder) == 0o700
    assert {mode(path) for path in pages.folder.iterdir()} == {0o600}
    assert (pages.folder / "log.txt").read_text() == "started\n"
    assert json.loads((pages.folder / "observed.json").read_text()) == {"addresses": []}
    assert (pages.files, pages.missing) == (["log.txt", "observed.json"], {})


def test_page_that_cannot_be_made_costs_itself_alone(tmp_path: Path) -> None:
    def broken() -> str:
        raise KeyError("gateway")

    pages = Pages(tmp_path / "web")
    pages.text("graph.svg", broken)
    pages.json("gates.json", lambda: {"when": object()})
    pages.text("log.txt", lambda: "started\n")
    assert pages.files == ["log.txt"]
    assert pages.missing == {
        "graph.svg": "KeyError: 'gateway'",
        "gates.json": "TypeError: Object of type object is not JSON serializable",
    }


def test_page_that_cannot_be_written_is_missing_with_its_first_line(tmp_path: Path) -> None:
    pages = Pages(tmp_path / "gone" / "web")
    pages.text("log.txt", lambda: "started\n")
    assert pages.files == []
    assert pages.missing["log.txt"].startswith("FileNotFoundError: [Errno 2]")
    pages.lacks("journal.txt", TimeoutError("no end\nafter 10 s"))
    assert pages.missing["journal.txt"] == "TimeoutError: no end"


@pytest.mark.parametrize("text", ["caf\udce9\n"])
def test_page_of_bytes_that_are_no_text_is_written(tmp_path: Path, text: str) -> None:
    pages = Pages(tmp_path / "web")
    pages.text("log.txt", lambda: text)
    assert (pages.folder / "log.txt").read_text() == "caf?\n"
