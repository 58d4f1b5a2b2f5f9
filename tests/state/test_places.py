"""Where runs are: several of one name, of which one at most is alive."""

from __future__ import annotations

import fcntl
import os
import threading
from pathlib import Path

import pytest

from pytest_carthage.state import places, possession
from pytest_carthage.state.listing import alive_run


def test_state_root_is_what_was_chosen_or_the_users_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CARTHAGE_STATE", "here")
    assert places.state_root() == tmp_path / "here"
    monkeypatch.delenv("CARTHAGE_STATE")
    monkeypatch.setattr(os, "geteuid", lambda: 4242)
    monkeypatch.setenv("XDG_STATE_HOME", "/var/own")
    assert places.state_root() == Path("/var/own/pytest-carthage")
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setenv("HOME", "/home/me")
    assert places.state_root() == Path("/home/me/.local/state/pytest-carthage")
    monkeypatch.setenv("HOME", "nowhere")
    assert places.state_root() == Path("/tmp/pytest-carthage-4242/pytest-carthage")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert places.state_root() == Path("/var/lib/pytest-carthage")


def test_runs_root_is_for_its_owner_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CARTHAGE_STATE", str(tmp_path / "state"))
    assert places.runs_root().stat().st_mode & 0o777 == 0o700


def test_runs_root_that_cannot_be_made_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "state").touch()
    monkeypatch.setenv("CARTHAGE_STATE", str(tmp_path / "state"))
    with pytest.raises(OSError, match=r"\(set CARTHAGE_STATE to a folder of your own\)"):
        places.runs_root()


def test_folders_of_a_name_are_those_with_a_number_too_the_oldest_first(tmp_path: Path) -> None:
    for name in ("ci", "ci.10", "ci.2", "ci.old", "ci-2", "cici"):
        (tmp_path / name).mkdir()
    names = [path.name for path in places.run_folders(tmp_path, "ci")]
    assert names == ["ci", "ci.2", "ci.10"]
    assert [places.run_name(tmp_path / name) for name in names] == ["ci"] * 3
    assert places.run_name(tmp_path / "ci-2") == "ci-2"


def test_new_folder_has_the_first_number_that_is_free(tmp_path: Path) -> None:
    assert places.new_run_folder(tmp_path, "ci") == tmp_path / "ci"
    (tmp_path / "ci").mkdir()
    (tmp_path / "ci.2").touch()
    assert places.new_run_folder(tmp_path, "ci") == tmp_path / "ci.3"


def test_run_is_alive_while_somebody_has_its_lock(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CARTHAGE_STATE", str(tmp_path))
    folder = tmp_path / "runs/ci.2"
    folder.mkdir(parents=True)
    assert not possession.is_alive(folder)
    assert not alive_run("ci")
    with possession.locked(folder) as is_ours:
        assert is_ours
        assert possession.is_alive(folder)
        assert alive_run("ci")
        with possession.locked(folder) as again:
            assert not again
    assert not possession.is_alive(folder)


def test_lock_is_got_after_those_who_only_look(tmp_path: Path) -> None:
    (tmp_path / "lock").touch()
    looking = (tmp_path / "lock").open()
    fcntl.flock(looking, fcntl.LOCK_SH)
    timer = threading.Timer(0.05, looking.close)
    timer.start()
    with possession.locked(tmp_path) as is_ours:
        assert is_ours
    timer.join()


def test_folder_that_is_gone_is_nobodys(tmp_path: Path) -> None:
    assert not possession.is_alive(tmp_path / "gone")
    assert possession.owner(tmp_path / "gone") == "?"
    assert places.run_id(tmp_path / "gone") == ""
    with possession.locked(tmp_path / "gone") as is_ours:
        assert not is_ours
