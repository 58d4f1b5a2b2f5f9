"""What ``docs/how-to/ci.md`` says of folders is where the product keeps images."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from pytest_carthage.state.places import state_root
from pytest_carthage.store.root import images_root
from tests.support.unprivileged import REPOSITORY

PAGE = (REPOSITORY / "docs/how-to/ci.md").read_text()
OPTIONS = (REPOSITORY / "docs/reference/options.md").read_text()
ROWS = dict(re.findall(r"^\| (root|another user) \| `(\S+?)`", PAGE, re.MULTILINE))


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home, and nothing that was chosen."""
    for name in ("CARTHAGE_IMAGES", "CARTHAGE_STATE", "XDG_DATA_HOME", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def test_folder_of_images_of_root(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert str(images_root()) == ROWS["root"]
    assert f"by default `{ROWS['root']}` for root" in OPTIONS
    assert f"by default `{state_root()}` for root" in OPTIONS


def test_folder_of_images_of_another_user(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert images_root() == Path(ROWS["another user"]).expanduser()
    assert str(images_root()).startswith(str(home))
    monkeypatch.setenv("XDG_DATA_HOME", str(home / "data"))
    assert images_root() == home / "data/pytest-carthage/images"


def test_folder_of_images_that_was_chosen(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CARTHAGE_IMAGES", str(home / "elsewhere"))
    assert "| anybody | what `CARTHAGE_IMAGES` names |" in PAGE
    assert images_root() == home / "elsewhere"
