"""Why a file of documentation is not there, told to whoever has missed it."""

from __future__ import annotations

import pytest

from pytest_carthage.model.image import UNNEEDED
from pytest_carthage.work.left_out import advice, left_out


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("cp: cannot stat '/usr/share/doc/x/example.conf': No such file", "docs=True"),
        ("cat: /usr/share/man/man1/ls.1.gz: No such file or directory", "docs=True"),
        ("Source /usr/share/locale/de/x.mo not found", 'locales=["de_DE.UTF-8"]'),
    ],
)
def test_file_that_was_left_out_is_told_of(text: str, remedy: str) -> None:
    told = advice(text, UNNEEDED)
    assert "is left out of the machine's image, as all of /usr/share/" in told
    assert told.endswith(f"try: Image.debian(..., {remedy})")
    assert told.startswith(("/usr/share/doc/x/example.conf is", "/usr/share/man", "/usr/share/loc"))


@pytest.mark.parametrize(
    "text",
    [
        "cat: /usr/share/nginx/index.html: No such file or directory",
        "/usr/share/doc/x/README says: all is well",
        "no such file",
    ],
)
def test_other_words_are_left_alone(text: str) -> None:
    assert advice(text, UNNEEDED) == ""


def test_file_of_a_folder_that_is_there_is_none_of_them() -> None:
    assert advice("cat: /usr/share/doc/x: No such file", ["locale"]) == ""


def test_configuration_of_dpkg_tells_what_is_left_out() -> None:
    assert left_out("path-exclude=/usr/share/doc/*\npath-exclude=/usr/share/man/*\n") == [
        "doc",
        "man",
    ]
