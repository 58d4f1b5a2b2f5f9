"""The text on screens: what tesseract makes of a text console, and what counts as the same."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from pytest_carthage.errors import FabricError, HostError
from pytest_carthage.screens import recognition
from pytest_carthage.screens.picture import png
from pytest_carthage.screens.recognition import lacks, recognise, shows

#: a text console of 80 columns: a network boot that finds nothing
CONSOLE = (Path(__file__).parent / "boot.png").read_bytes()

has_tesseract = pytest.mark.skipif(lacks() is not None, reason=str(lacks()))


@has_tesseract
def test_text_console_is_recognised() -> None:
    text = asyncio.run(recognise(CONSOLE))
    for words in (
        "Booting from ROM...",
        "iPXE initialising devices...ok",
        "Open Source Network Boot Firmware",
        "No bootable device.",
    ):
        assert shows(text, words), text
    assert not shows(text, "login:")


@has_tesseract
def test_screen_without_text_has_none() -> None:
    assert asyncio.run(recognise(png(720, 400, bytes(720 * 400)))) == ""


@has_tesseract
def test_picture_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="no PNG file"):
        asyncio.run(recognise(b"P6"))


def test_without_tesseract_the_remedy_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(HostError, match="there is none; try: apt install tesseract-ocr"):
        asyncio.run(recognise(CONSOLE))


def test_what_fails_and_what_never_ends_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "tesseract"
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    program.write_text("#!/bin/sh\ncat > /dev/null; echo 'no language eng' >&2; exit 3\n")
    program.chmod(0o755)
    with pytest.raises(FabricError, match="tesseract: no language eng"):
        asyncio.run(recognise(CONSOLE))
    program.write_text("#!/bin/sh\nexec sleep 60\n")
    monkeypatch.setattr(recognition, "_LIMIT_S", 0.5)
    with pytest.raises(FabricError, match=r"tesseract: no text after 0\.5 s"):
        asyncio.run(recognise(CONSOLE))


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("db login: _", "login:"),
        ("db 1ogin :", "login:"),
        ("netO: Netuork", "net0: Network"),
        ("a \u2014- b", "a--b"),
        ("Press\nenter", "press ENTER"),
    ],
)
def test_what_looks_alike_is_the_same(text: str, wanted: str) -> None:
    assert shows(text, wanted)


@pytest.mark.parametrize(("text", "wanted"), [("db logon:", "login:"), ("", "x"), ("80", "90")])
def test_what_looks_different_is_not(text: str, wanted: str) -> None:
    assert not shows(text, wanted)
