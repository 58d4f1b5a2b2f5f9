"""The journal: what was intended and not yet destroyed is outstanding, whatever happened."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_carthage.provider import Identity
from pytest_carthage.state import journal
from pytest_carthage.state.entries import as_entry, from_entry
from pytest_carthage.state.journal import Journal


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.jsonl"


@pytest.fixture
def book(path: Path) -> Iterator[Journal]:
    book = Journal(path)
    yield book
    book.close()


def identity(name: str, environment: str = "one", **detail: str) -> Identity:
    return Identity(kind="cloud", run="r", environment=environment, name=name).with_detail(**detail)


def outstanding(path: Path, environment: str | None = None) -> list[Identity]:
    return [from_entry(i) for i in journal.outstanding(journal.read(path), environment)]


def test_outstanding_is_what_was_not_destroyed_newest_first(book: Journal, path: Path) -> None:
    for name in ("a", "b", "c"):
        book.write("intent", as_entry(identity(name, id=f"i-{name}")))
    book.write("intent", as_entry(identity("d", environment="two")))
    book.write("destroyed", as_entry(identity("b")))
    assert outstanding(path) == [
        identity("d", environment="two"),
        identity("c", id="i-c"),
        identity("a", id="i-a"),
    ]
    assert [one.name for one in outstanding(path, "one")] == ["c", "a"]


def test_second_intent_adds_its_detail_to_that_of_the_first(book: Journal, path: Path) -> None:
    book.write("intent", as_entry(identity("a", zone="north", state="asked for")))
    book.write("intent", as_entry(identity("b")))
    book.write("intent", as_entry(identity("a", id="i-7", state="begun")))
    assert outstanding(path) == [
        identity("b"),
        identity("a", zone="north", state="begun", id="i-7"),
    ]


def test_destroyed_holds_for_a_thing_whatever_is_known_of_it(book: Journal, path: Path) -> None:
    book.write("intent", as_entry(identity("a", id="i-7")))
    book.write("destroyed", as_entry(identity("a")))
    assert outstanding(path) == []


def test_identity_outside_of_the_fabric_is_so_after_it_was_read(book: Journal, path: Path) -> None:
    outside = Identity(kind="cloud", run="r", environment="one", name="a", outside=True)
    book.write("intent", as_entry(outside))
    assert outstanding(path) == [outside]


def test_entry_that_outlives_the_fabric_is_on_its_disk(
    book: Journal, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fdatasync", synced.append)
    book.write("intent", as_entry(identity("a")))
    assert synced == []
    book.write("intent", as_entry(identity("b")) | {"outside": True})
    assert synced == [book.fileno()]


def test_failures_tell_the_last_error_and_how_often_it_was_tried(book: Journal, path: Path) -> None:
    for name in ("a", "b"):
        book.write("intent", as_entry(identity(name)))
    book.write("failed", as_entry(identity("a")), error="busy", at=10.0)
    book.write("failed", as_entry(identity("a")), error="still busy", at=20.0)
    book.write("failed", as_entry(identity("b")), error="busy", at=20.0)
    book.write("destroyed", as_entry(identity("b")))
    (failure,) = journal.failures(journal.read(path))
    assert from_entry(failure.identity) == identity("a")
    assert (failure.error, failure.at, failure.tries) == ("still busy", 20.0, 2)


def test_thing_of_the_same_name_later_has_no_failures_of_the_former(
    book: Journal, path: Path
) -> None:
    book.write("intent", as_entry(identity("a")))
    book.write("failed", as_entry(identity("a")), error="busy", at=10.0)
    book.write("destroyed", as_entry(identity("a")))
    book.write("intent", as_entry(identity("a")))
    assert list(journal.failures(journal.read(path))) == []


# damage


def test_line_that_a_crash_cut_off_is_ignored(book: Journal, path: Path) -> None:
    book.write("intent", as_entry(identity("a")))
    with path.open("a") as file:
        file.write('{"op":"intent","identity":{"kind":"cl')
    assert outstanding(path) == [identity("a")]
    assert not journal.is_damaged(path)


def test_entry_after_one_that_was_cut_off_can_be_read(book: Journal, path: Path) -> None:
    book.write("intent", as_entry(identity("a")))
    with path.open("a") as file:
        file.write('{"op":"intent","identity":{"kind":"cl')
    again = Journal(path)
    again.write("intent", as_entry(identity("b")))
    again.write("intent", as_entry(identity("c")))
    again.close()
    assert outstanding(path) == [identity("c"), identity("b"), identity("a")]


def test_write_without_room_is_an_error_and_the_next_one_begins_anew(
    book: Journal, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[:20]))
    with pytest.raises(OSError, match="No space left on device"):
        book.write("intent", as_entry(identity("a")))
    monkeypatch.setattr(os, "write", write)
    book.write("intent", as_entry(identity("b")))
    assert outstanding(path) == [identity("b")]


@pytest.mark.parametrize(
    "line",
    [
        "\0\0\0\0",
        "[]",
        "7",
        '{"op":"intent"}',
        '{"identity":{"kind":"a","run":"b","environment":"c","name":"d","detail":[]}}',
        '{"op":"intent","identity":{"kind":"a","run":"b","environment":"c","name":7,"detail":[]}}',
        '{"op":"intent","identity":{"kind":"a","run":"b","environment":"c","name":"d","detail":1}}',
        '{"op":"intent","identity":{"kind":"a","run":"b","environment":"..","name":"d","detail":[]}}',
        '{"op":"intent","identity":{"kind":"a","run":"b","environment":"a/b","name":"d","detail":[]}}',
        "[" * 100_000,
    ],
)
def test_line_that_says_nothing_is_damage_and_the_others_hold(
    book: Journal, path: Path, line: str
) -> None:
    book.write("intent", as_entry(identity("a")))
    with path.open("a") as file:
        file.write(f"{line}\n")
    book.write("intent", as_entry(identity("b")))
    assert journal.is_damaged(path)
    assert outstanding(path) == [identity("b"), identity("a")]


def test_journal_that_is_gone_or_empty_is_damaged_and_lists_nothing(
    tmp_path: Path, book: Journal, path: Path
) -> None:
    assert journal.read(tmp_path / "none") == []
    assert journal.is_damaged(tmp_path / "none")
    assert journal.is_damaged(path)
    book.write("intent", as_entry(identity("a")))
    assert not journal.is_damaged(path)


@pytest.mark.parametrize(
    "change",
    [{"environment": ".."}, {"environment": "/"}, {"kind": None}, {"detail": 7}, {"name": ["x"]}],
)
def test_identity_that_is_none_is_refused(change: dict[str, object]) -> None:
    identity = {**journal.fabric("abc", "ci-shop"), **change}
    with pytest.raises(ValueError, match="no identity: "):
        journal.check(identity)
