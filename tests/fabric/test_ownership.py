"""Folders of somebody else are refused, also where only the way to them is foreign."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import pytest

from pytest_carthage.errors import BuildError, StateError
from pytest_carthage.fabric.host import ownership
from pytest_carthage.state import places
from pytest_carthage.state.run import Run
from pytest_carthage.state.timings import Stopwatch, Timing
from pytest_carthage.store.root import Store, pending

NOBODY = 65534


@pytest.fixture
def above(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stands for the folder in /tmp of a user without a home, whom we are."""
    folder = tmp_path / "homeless"
    monkeypatch.setattr(ownership, "homeless", lambda: str(folder))
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() or 4242)
    monkeypatch.setenv("HOME", "nowhere")
    for name in ("CARTHAGE_STATE", "CARTHAGE_IMAGES", "XDG_STATE_HOME", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    return folder


@pytest.fixture
def as_root() -> None:
    if os.getuid() != 0:
        pytest.skip("gives folders away, which needs root")


def test_images_of_a_user_without_a_home_in_a_foreign_folder_are_refused(
    above: Path, as_root: None
) -> None:
    images = above / "pytest-carthage/images"
    images.mkdir(parents=True)
    os.chown(above, NOBODY, -1)
    os.chown(images, os.geteuid(), -1)
    with pytest.raises(
        BuildError,
        match=rf"images are kept in {images}: {above} belongs to user {NOBODY}, not to 4242; "
        "set CARTHAGE_IMAGES to a folder of your own",
    ):
        Store()


def test_images_in_a_folder_that_anybody_can_write_to_are_refused(
    above: Path, as_root: None
) -> None:
    above.mkdir()
    above.chmod(0o777)
    os.chown(above, os.geteuid(), -1)
    with pytest.raises(BuildError, match=r"is no folder that its owner alone can write to; set "):
        Store().prepare()


def test_images_behind_a_link_that_stands_in_the_way_are_refused(
    above: Path, as_root: None, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    above.symlink_to(tmp_path / "other")
    os.chown(above, os.geteuid(), -1, follow_symlinks=False)
    with pytest.raises(BuildError, match="is no folder that its owner alone can write to"):
        Store()


def test_images_of_another_user_are_refused_however_they_were_chosen(
    tmp_path: Path, as_root: None
) -> None:
    chosen = tmp_path / "images"
    store = Store(chosen)  # what is not there is nobody's
    chosen.mkdir()
    os.chown(chosen, NOBODY, -1)
    with pytest.raises(BuildError, match=rf"{chosen} belongs to user {NOBODY}, not to 0; "):
        store.prepare()
    assert list(chosen.iterdir()) == []


def test_images_of_a_user_without_a_home_are_kept_for_that_user_alone(
    above: Path, as_root: None
) -> None:
    above.mkdir(mode=0o755)
    os.chown(above, os.geteuid(), -1)
    (above / "pytest-carthage/images").mkdir(parents=True)
    os.chown(above / "pytest-carthage/images", os.geteuid(), -1)
    store = Store()
    store.prepare()
    assert store.root == above / "pytest-carthage/images"


def test_state_of_a_user_without_a_home_in_a_foreign_folder_is_refused(
    above: Path, as_root: None
) -> None:
    runs = above / "pytest-carthage/runs"
    runs.mkdir(parents=True)
    os.chown(above, NOBODY, -1)
    os.chown(runs, os.geteuid(), -1)
    with pytest.raises(PermissionError, match=rf"{above} belongs to user {NOBODY}, not to 4242"):
        places.runs_root()


def test_run_is_not_begun_in_a_foreign_folder(
    tmp_path: Path, as_root: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CARTHAGE_STATE", str(tmp_path))
    (tmp_path / "runs").mkdir()
    os.chown(tmp_path / "runs", NOBODY, -1)

    async def refused() -> None:
        await Run.join("ci")

    with pytest.raises(StateError, match=r"no place for the state of runs: .*belongs to user"):
        asyncio.run(refused())
    assert list((tmp_path / "runs").iterdir()) == []


def test_nothing_is_made_behind_a_link_that_somebody_else_has_put_there(
    above: Path, as_root: None, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    above.symlink_to(tmp_path / "other")
    os.chown(above, NOBODY, -1, follow_symlinks=False)
    for make in (places.runs_root, places.own_folder):
        with pytest.raises(PermissionError, match=rf"{above} belongs to user {NOBODY}"):
            make()
    stopwatch = Stopwatch()
    stopwatch._found["a"] = Timing(seconds=(1.0,), key="", at=1.0)
    stopwatch.save()
    with pending().announced(tmp_path / ".a.new"):
        pass
    assert list((tmp_path / "other").iterdir()) == []


def test_folder_of_a_user_without_a_home_is_for_nobody_else_to_write_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    above = tmp_path / "homeless"
    monkeypatch.setattr(ownership, "homeless", lambda: str(above))
    before = os.umask(0)
    try:
        ownership.make(f"{above}/pytest-carthage/runs", "CARTHAGE_STATE")
    finally:
        os.umask(before)
    assert above.stat().st_mode & 0o777 == 0o711
    assert (above / "pytest-carthage/runs").stat().st_mode & 0o777 == 0o700


def test_what_somebody_else_says_is_half_written_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, as_root: None
) -> None:
    monkeypatch.setenv("CARTHAGE_IMAGES", str(tmp_path / "images"))
    note, victim = tmp_path / "images/pending/a.json", tmp_path / ".a.new"
    victim.touch()
    note.parent.mkdir(parents=True)
    info = victim.stat()
    note.write_text(json.dumps({"path": str(victim), "inode": [info.st_dev, info.st_ino]}))
    os.chown(note.parent, NOBODY, -1)
    pending().sweep()
    assert pending().dead() == []
    assert victim.exists()
    os.chown(note.parent, 0, -1)
    pending().sweep()
    assert not victim.exists()


@pytest.mark.parametrize("name", ["precious", ".precious", "new"])
def test_note_of_what_is_not_hidden_removes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("CARTHAGE_IMAGES", str(tmp_path / "images"))
    note, victim = tmp_path / "images/pending/a.json", tmp_path / name
    victim.touch()
    note.parent.mkdir(parents=True)
    info = victim.stat()
    note.write_text(json.dumps({"path": str(victim), "inode": [info.st_dev, info.st_ino]}))
    pending().sweep()
    assert victim.exists()
