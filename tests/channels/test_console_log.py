"""What is written of a serial console: text, and never more than a bound."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_carthage.channels.console_log import ConsoleLog, Plain

#: what systemd and a boot loader print, and the text of it
SHOWN = {
    b"[\x1b[0;32m  OK  \x1b[0m] Started \x1b[0;1;39mssh.service\x1b[0m.\r\n": (
        b"[  OK  ] Started ssh.service.\n"
    ),
    b"\x1b[2J\x1b[01;01H\x1b[=3hGRUB\x1b7\x1b(B\x1bc": b"GRUB",
    b"\x1b]0;root@web\x07web login: ": b"web login: ",
    b"\x1b]0;title\x1b\\\x1bPq#0\x1b\\x\r\r\n": b"x\n",
    "socket\x1b[…- Bus\x1bÄ".encode(): "socket…- BusÄ".encode(),
    b"50 %\r100 %\n": b"50 %\r100 %\n",
    b"a\x00\x07b\x7fc\td": b"abc\td",
    "Grüße\r\n".encode(): "Grüße\n".encode(),
}


@pytest.mark.parametrize("printed", SHOWN)
def test_sequences_of_a_terminal_are_not_in_the_text(printed: bytes) -> None:
    assert Plain().text(printed) == SHOWN[printed]


@given(st.lists(st.integers(1, 200), max_size=6))
def test_text_is_the_same_however_it_comes_in_pieces(cuts: list[int]) -> None:
    printed = b"".join(SHOWN) + b"\n"
    plain, at, text = Plain(), 0, b""
    for cut in [*cuts, len(printed)]:
        text += plain.text(printed[at : at + cut])
        at += cut
    assert text == b"".join(SHOWN.values()) + b"\n"


def test_prompt_without_an_end_of_line_is_there_at_once() -> None:
    assert Plain().text(b"login: ") == b"login: "


def test_sequence_without_an_end_is_not_waited_for_for_ever() -> None:
    plain = Plain()
    assert plain.text(b"\x1b]0;") == b""
    assert len(plain.text(b"x" * 5000)) > 4000


def test_log_of_a_flood_has_its_beginning_and_its_end_and_says_what_it_lacks(
    tmp_path: Path,
) -> None:
    path = tmp_path / "web.log"
    log = ConsoleLog(str(path), most=20_000, head=1_000, tail=3_000)
    sizes = []
    for number in range(20_000):
        log.write(b"line %d\r\n" % number)
        sizes.append(path.stat().st_size)
    lines = path.read_text().splitlines()
    assert max(sizes) <= 20_000
    assert lines[0] == "line 0"
    assert lines[-1] == "line 19999"
    (remark,) = [line for line in lines if line.startswith("[...")]
    assert remark.endswith("bytes are left out here: it printed more than 0 MiB ...]")
    whole = sum(len(f"line {number}\n") for number in range(20_000))
    here = sum(len(line) + 1 for line in lines if line != remark)
    assert int(remark.split()[1]) == pytest.approx(whole - here, abs=100 * 20)
    log.close()


def test_log_of_a_flood_stays_the_same_file(tmp_path: Path) -> None:
    path, other = tmp_path / "web.log", tmp_path / "second name"
    log = ConsoleLog(str(path), most=1_000, head=100, tail=200)
    other.hardlink_to(path)
    for _ in range(100):
        log.write(b"x" * 99 + b"\n")
    assert other.read_bytes() == path.read_bytes()
    assert path.stat().st_mode & 0o777 == 0o600
    log.close()


def test_log_goes_on_after_a_full_disk_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "web.log"
    log = ConsoleLog(str(path))
    log.write(b"before\n")
    write = os.write

    def full(fd: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    log.write(b"lost\n")
    monkeypatch.setattr(os, "write", write)
    log.write(b"after\n")
    log.write(b"and on\n")
    assert path.read_text() == "before\n\n[5 bytes are lost: the disk was full]\nafter\nand on\n"
    log.close()
