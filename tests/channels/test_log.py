"""Logs that grow, of which no more is read than somebody needs."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_carthage.channels import log as logs
from pytest_carthage.channels.log import Log, Search, size_of_logs


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "web.log"


def shout(data: bytes) -> bytes:
    """A decoder that takes whole lines, of which the last may be to come."""
    return data.upper()


def test_log_that_is_not_there_is_empty(path: Path) -> None:
    log = Log(path)
    assert (log.size, log.text(), log.tail(), log.last_lines(5)) == (0, "", "", [])
    assert log.part(7, head=1, tail=1).text == ""
    assert not Search(log, "x").is_there()


def test_end_of_a_log_is_read_in_whole_lines(path: Path) -> None:
    path.write_text("first\nsecond\nthird\n")
    log = Log(path)
    assert log.tail(most_bytes=10) == "third\n"
    assert log.tail(6) == "second\nthird\n"
    assert log.last_lines(2) == ["second", "third"]
    assert log.last_lines(2, since=13) == ["third"]


def test_last_lines_of_a_long_log_are_read_from_its_end_alone(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.write_bytes(b"x" * 1_000_000 + b"\nready\n")
    read: list[int] = []
    plain = Log._read

    def count(log: Log, begin: int, end: int) -> bytes:
        read.append(end - begin)
        return plain(log, begin, end)

    monkeypatch.setattr(Log, "_read", count)
    assert Log(path).last_lines(1) == ["ready"]
    assert read == [64 << 10]


def test_part_of_a_log_says_what_it_leaves_out(path: Path) -> None:
    path.write_text("before\none\ntwo\nthree\nfour\n")
    part = Log(path).part(7, head=5, tail=6)
    assert part.text == "one\n[... 10 bytes are left out here ...]\nfour\n"
    assert (part.before, part.left_out) == (7, 10)
    whole = Log(path).part(7, head=50, tail=60)
    assert (whole.text, whole.before, whole.left_out) == ("one\ntwo\nthree\nfour\n", 7, 0)
    assert Log(path).part(10_000, head=50, tail=60).before == 0, "another file by now"


def test_log_is_decoded_in_whole_lines(path: Path) -> None:
    path.write_text("one\ntwo\nhalf")
    log = Log(path, shout)
    assert [data for data, _ in log.pieces()] == [b"ONE\nTWO\n"]
    assert log.part(4, head=4, tail=5).text == "TWO\nHALF"
    search = Search(log, "HALF")
    assert not search.is_there(), "it may go on"
    path.write_text("one\ntwo\nhalf\n")
    assert search.is_there()


@given(
    pieces=st.lists(st.text("ab", max_size=6), max_size=8),
    text=st.text("ab", min_size=1, max_size=4),
    size=st.integers(1, 5),
)
def test_search_finds_what_is_there_by_now(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[str], text: str, size: int
) -> None:
    path = tmp_path_factory.mktemp("logs") / "web.log"
    search = Search(Log(path), text)
    printed = ""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(logs, "_PIECE", size)
        for piece in pieces:
            printed += piece
            path.write_text(printed)
            held = search.is_there()
            assert held == (text in printed)
            if held:
                return


def test_search_reads_each_byte_once(path: Path) -> None:
    path.write_bytes(b"x" * 3_000_000)
    log, read = Log(path), 0
    plain = log.pieces

    def pieces(since: int = 0):  # type: ignore[no-untyped-def]
        nonlocal read
        for data, end in plain(since):
            read += len(data)
            yield data, end

    log.pieces = pieces  # type: ignore[method-assign]
    search = Search(log, "ready")
    for _ in range(5):
        assert not search.is_there()
    with path.open("ab") as file:
        file.write(b"rea")
    assert not search.is_there()
    with path.open("ab") as file:
        file.write(b"dy\n")
    assert search.is_there()
    assert read == 3_000_006


def test_search_begins_anew_in_another_file(path: Path) -> None:
    path.write_text("long enough\n")
    search = Search(Log(path), "ready")
    assert not search.is_there()
    path.write_text("ready\n")
    assert search.is_there()


def test_sizes_are_those_of_the_logs_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "web.log").write_text("four")
    (tmp_path / "web.txt").write_text("four")
    assert size_of_logs(tmp_path) == {"web.log": 4}
    assert size_of_logs(tmp_path / "none") == {}
