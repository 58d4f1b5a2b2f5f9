"""Names of folders lead one step down, and what is removed by them lies below a folder of ours.

Nothing is removed here but what a test has made: whatever would be more is a fake that fails.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from pytest_carthage.fabric.container import groups
from pytest_carthage.fabric.host import folders

OUTSIDE = ["", ".", "..", "/", "../..", "a/b", "/tmp/x", "a\0b", "a\nb", "x" * 256, "ä" * 128]


@pytest.fixture
def harmless(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name in ((shutil, "rmtree"), (os, "rmdir"), (os, "unlink")):
        monkeypatch.setattr(
            module, name, lambda *args, **more: pytest.fail(f"it would remove {args}")
        )


@pytest.mark.parametrize("name", [*OUTSIDE, None, 7, ["a"], "\ud800"])
def test_name_that_leads_out_of_its_folder_is_none(name: object) -> None:
    assert not folders.is_name(name)


@pytest.mark.parametrize("name", ["ci-shop-gw0-2", "läden", ".a", "a b", "...", "🦄"])
def test_name_of_a_folder_is_one(name: str) -> None:
    assert folders.is_name(name)


def test_steps_are_names() -> None:
    assert folders.steps("/a/b") == ["a", "b"]


@pytest.mark.parametrize("path", ["", "/", "a", "/a/", "//a", "/a/../b", "/a/./b", "/.."])
def test_path_that_leads_elsewhere_has_no_steps(path: str) -> None:
    with pytest.raises(ValueError, match="leads to nothing of ours"):
        folders.steps(path)


@pytest.mark.usefixtures("harmless")
@pytest.mark.parametrize("name", OUTSIDE)
def test_nothing_is_removed_by_a_name_that_leads_elsewhere(tmp_path: Path, name: str) -> None:
    (tmp_path / "a").mkdir()
    for names in ((name,), ("a", name), (name, "a")):
        assert folders.remove(tmp_path, *names).endswith("and nothing is removed")


@pytest.mark.usefixtures("harmless")
def test_folder_itself_is_never_removed(tmp_path: Path) -> None:
    assert folders.remove(tmp_path).endswith("and nothing is removed")


@pytest.mark.usefixtures("harmless")
def test_nothing_is_removed_from_the_root_of_all() -> None:
    assert "is not removed" in folders.remove(Path("/"), "no-such-folder-of-ours")


@pytest.mark.usefixtures("harmless")
def test_nothing_is_removed_from_a_folder_of_somebody_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").mkdir()
    monkeypatch.setattr(folders, "_user", lambda: os.geteuid() + 1)
    assert "is no folder of user" in folders.remove(tmp_path, "a")


@pytest.mark.usefixtures("harmless")
def test_nothing_is_removed_while_something_is_mounted_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounts = tmp_path / "mountinfo"
    (tmp_path / "a b/root").mkdir(parents=True)
    where = str(tmp_path / "a b/root").replace(" ", "\\040")
    mounts.write_text(f"25 1 254:0 / {where} rw - ext4 /dev/vda rw\n")
    monkeypatch.setattr(folders, "_MOUNTS", str(mounts))
    path = tmp_path / "a b"
    assert folders.remove(tmp_path, "a b") == f"{path} is not removed: {path}/root is mounted"


def test_links_are_followed_neither_on_the_way_nor_below(tmp_path: Path) -> None:
    (tmp_path / "other/envs/a").mkdir(parents=True)
    (tmp_path / "other/file").touch()
    (tmp_path / "run").mkdir()
    (tmp_path / "run/envs").symlink_to("../other/envs")
    (tmp_path / "linked").symlink_to("other")
    (tmp_path / "run/file").symlink_to("../other/file")
    assert "cannot be removed" in folders.remove(tmp_path, "run", "envs", "a")
    assert "cannot be removed" in folders.remove(tmp_path, "linked")
    assert folders.remove(tmp_path, "run") == ""
    assert not (tmp_path / "run").exists()
    assert (tmp_path / "other/envs/a").is_dir()
    assert (tmp_path / "other/file").exists()


def test_what_is_not_there_is_removed_already(tmp_path: Path) -> None:
    assert folders.remove(tmp_path / "none", "a") == ""
    assert folders.remove(tmp_path, "none", "a") == ""
    assert folders.remove(tmp_path, "none") == ""


@pytest.mark.usefixtures("harmless")
@pytest.mark.parametrize("path", ["/", "/..", "/a/../..", "a"])
def test_control_group_that_leads_elsewhere_is_neither_made_nor_removed(path: str) -> None:
    for act in (groups.remove, groups.make, lambda path: groups.join(path, controllers=True)):
        with pytest.raises(ValueError, match="leads to nothing of ours"):
            act(path)


@pytest.mark.usefixtures("harmless")
def test_machine_without_a_control_group_has_none_removed() -> None:
    groups.remove("")
