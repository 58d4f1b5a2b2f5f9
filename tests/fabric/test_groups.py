"""Control groups of machines, beside an init that does with them what it likes."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_carthage.fabric.container import groups


def test_group_that_an_init_removes_again_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []

    def make(folder: str) -> None:
        made.append(folder)
        if len(made) == 3:  # until then it is gone again
            Path(folder).mkdir()

    monkeypatch.setattr(groups, "_folders", lambda path, *, controllers: [str(tmp_path)])
    monkeypatch.setattr(groups, "_make", make)
    groups.join("m1", "carthage", controllers=True)
    assert made == [f"{tmp_path}/carthage"] * 3
    assert (tmp_path / "carthage/cgroup.procs").read_text() == "0"


def test_group_that_never_stays_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(groups, "_folders", lambda path, *, controllers: [str(tmp_path)])
    monkeypatch.setattr(groups, "_make", lambda folder: None)
    with pytest.raises(FileNotFoundError, match=r"carthage/cgroup\.procs"):
        groups.join("m1", "carthage", controllers=True)
