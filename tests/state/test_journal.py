"""The journal: what was intended and not yet destroyed is outstanding, whatever happened."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from pytest_carthage.provider import Identity
from pytest_carthage.state import journal, sweep
from pytest_carthage.state.run import as_entry, from_entry


def identity(name: str, environment: str = "one", kind: str = "cloud") -> Identity:
    return Identity(
        kind=kind, run="r", environment=environment, name=name, detail=(("id", f"i-{name}"),)
    )


def test_outstanding_is_what_was_not_destroyed_newest_first(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    book = journal.Journal(path)
    for name in ("a", "b", "c"):
        book.write({"op": "intent", "identity": as_entry(identity(name))})
    book.write({"op": "intent", "identity": as_entry(identity("d", environment="two"))})
    book.write({"op": "destroyed", "identity": as_entry(identity("b"))})
    book.close()
    left = journal.outstanding(journal.read(path))
    assert [from_entry(entry) for entry in left] == [
        identity("d", environment="two"),
        identity("c"),
        identity("a"),
    ]
    assert [e["name"] for e in journal.outstanding(journal.read(path), "one")] == ["c", "a"]


def test_line_that_a_crash_cut_off_is_ignored(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    book = journal.Journal(path)
    book.write({"op": "intent", "identity": as_entry(identity("a"))})
    book.close()
    with path.open("a") as file:
        file.write('{"op":"intent","identity":{"kind":"cl')
    assert len(journal.read(path)) == 1
    assert journal.read(tmp_path / "none") == []


def test_sweep_destroys_all_it_can_and_tells_of_the_rest(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    destroyed = []

    class Cloud:
        async def destroy(self, one: Identity) -> None:
            if one.name == "stuck":
                raise RuntimeError("still in use")
            destroyed.append(one.name)

    found: dict[str, Any] = {"cloud": Cloud}
    monkeypatch.setattr(sweep, "load_providers", lambda: found)
    work = [identity("a"), identity("stuck"), identity("x", kind="gone"), identity("b")]
    assert asyncio.run(sweep._sweep(work)) == 2
    assert destroyed == ["a", "b"]
    told = capsys.readouterr().err
    assert "RuntimeError: still in use" in told
    assert "no provider 'gone'" in told
