"""Files that a task has read: what counts of them, and what does not."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_carthage.model.keys.inputs import Inputs, changed, hash_of, near, program_of
from pytest_carthage.work.files.template import render


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "suite" / "role"
    (made / "files").mkdir(parents=True)
    (made / "files" / "one").write_text("1")
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "two").write_text("2")
    (made / "two").symlink_to("../../shared/two")
    (made / "shared").symlink_to("../../shared")
    (made / "round").symlink_to(".")
    (made / "nowhere").symlink_to("nothing")
    return made


EDITS: dict[str, Callable[[Path], object]] = {
    "text": lambda folder: (folder / "files" / "one").write_text("3"),
    "file that appears": lambda folder: (folder / "files" / "new").touch(),
    "empty folder that appears": lambda folder: (folder / "new").mkdir(),
    "file that vanishes": lambda folder: (folder / "files" / "one").unlink(),
    "execution": lambda folder: (folder / "files" / "one").chmod(0o755),
    "secrecy": lambda folder: (folder / "files" / "one").chmod(0o600),
    "setuid": lambda folder: (folder / "files" / "one").chmod(0o4755),
    "secrecy of a folder": lambda folder: (folder / "files").chmod(0o700),
    "secrecy of the whole": lambda folder: folder.chmod(0o700),
    "what a link leads to": lambda folder: (folder / "../../shared/two").write_text("3"),
    "file in a folder that a link leads to": lambda folder: (folder / "../../shared/x").touch(),
    "where a link leads": lambda folder: (folder / "nowhere").replace(folder / "round"),
}


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS.keys())
def test_edit_changes_the_hash_of_a_folder(folder: Path, edit: Callable[[Path], object]) -> None:
    before = hash_of(folder)
    edit(folder)
    assert hash_of(folder) != before


EDITS_NOT: dict[str, Callable[[Path], object]] = {
    "time": lambda folder: os.utime(folder / "files" / "one", (1, 1)),
    "cache": lambda folder: (folder / "__pycache__").mkdir(),
    "umask": lambda folder: (folder / "files" / "one").chmod(0o664),
    "umask for a folder": lambda folder: (folder / "files").chmod(0o775),
}


@pytest.mark.parametrize("edit", EDITS_NOT.values(), ids=EDITS_NOT.keys())
def test_what_does_not_count_keeps_the_hash(folder: Path, edit: Callable[[Path], object]) -> None:
    before = hash_of(folder)
    edit(folder)
    assert hash_of(folder) == before


@pytest.mark.parametrize("name", ["files/one", "files", "two"])
def test_edit_while_a_task_runs_is_taken_for_neither(folder: Path, name: str) -> None:
    inputs = Inputs(folder)
    inputs.add(folder / name)
    before = dict(inputs.found)
    inputs.settle()
    assert inputs.found == before
    (folder / name / "one" if name == "files" else folder / name).write_text("edited")
    inputs.settle()
    assert changed(inputs.found, folder, {}) == [name]
    (folder / name / "one" if name == "files" else folder / name).write_text("1")
    assert changed(inputs.found, folder, {}) == [name]


def test_file_that_is_looked_for_counts_when_it_appears(folder: Path) -> None:
    (folder / "main.j2").write_text("{% include ['local.j2', 'one.j2'] %}")
    (folder / "one.j2").write_text("one")
    inputs = Inputs(folder)
    assert render(folder / "main.j2", {}, inputs.add) == "one"
    assert changed(inputs.found, folder, {}) == []
    (folder / "local.j2").write_text("two")
    assert changed(inputs.found, folder, {}) == ["local.j2"]


def test_file_that_a_task_makes_and_reads_then_is_what_it_has_read(folder: Path) -> None:
    inputs = Inputs(folder)
    inputs.add(folder / "made")
    (folder / "made").write_text("1")
    inputs.add(folder / "made")
    inputs.settle()
    assert changed(inputs.found, folder, {}) == []


def test_version_of_a_program_is_an_input_by_its_name(folder: Path) -> None:
    inputs = Inputs(folder)
    inputs.add(folder / "files" / "one")
    inputs.add_program("ansible-core", "2.17.1")
    assert changed(inputs.found, folder, {"ansible-core": "2.17.1", "other": "1"}) == []
    assert changed(inputs.found, folder, {"ansible-core": "2.17.2"}) == ["ansible-core"]
    # a program that is gone has changed, too
    assert changed(inputs.found, folder, {}) == ["ansible-core"]
    programs = [program_of(name) for name in inputs.found]
    assert programs == [None, "ansible-core"]


def test_everything_that_changed_is_told_in_the_order_in_which_it_was_read(folder: Path) -> None:
    inputs = Inputs(folder)
    for name in ("two", "files/one", "files"):
        inputs.add(folder / name)
    (folder / "files" / "one").write_text("3")
    assert changed(inputs.found, folder, {}) == ["files/one", "files"]
    (folder / "two").unlink()
    assert changed(inputs.found, folder, {}) == ["two", "files/one", "files"]


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("/srv/role/a", "a"),
        ("/srv/role/a/../b", "b"),
        ("/srv/role", "."),
        ("/srv/shared/a", "../shared/a"),
        ("/etc/a", "/etc/a"),
        ("/srvother/a", "/srvother/a"),
    ],
)
def test_path_near_a_task_is_told_from_there(path: str, told: str) -> None:
    assert near(Path(path), Path("/srv/role")) == told


def test_relative_path_is_of_the_working_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    assert near(Path("files/one"), folder) == "files/one"


def test_role_and_its_files_may_be_moved_together(folder: Path, tmp_path: Path) -> None:
    inputs = Inputs(folder)
    for name in ("files", "two", "../role/files/one"):
        inputs.add(folder / name)
    moved = tmp_path / "elsewhere"
    (tmp_path / "suite").rename(moved)
    assert changed(inputs.found, moved / "role", {}) == []


def test_what_is_no_file_is_not_opened_and_what_there_is_not_has_no_hash(folder: Path) -> None:
    pipe = folder / "files" / "pipe"
    before = hash_of(folder / "files")
    os.mkfifo(pipe)
    assert hash_of(pipe) == "special"
    assert hash_of(folder / "files") != before
    assert hash_of(folder / "nothing") == ""
    assert hash_of(folder / "nowhere") == ""
    assert hash_of(folder / "files" / "one" / "below") == ""


@pytest.mark.parametrize(
    ("mode", "ending"), [(0o644, ""), (0o664, ""), (0o755, "x"), (0o775, "x"), (0o600, "-600")]
)
def test_hash_of_a_file_is_that_of_its_text_and_tells_its_permissions(
    folder: Path, mode: int, ending: str
) -> None:
    file = folder / "files" / "one"
    file.chmod(mode)
    text = "6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b"
    assert hash_of(file) == text + ending


def test_link_and_what_it_leads_to_are_hashed_alike_where_they_are_asked_for(folder: Path) -> None:
    assert hash_of(folder / "two") == hash_of(folder / "../../shared/two")
    assert hash_of(folder / "shared") == hash_of(folder / "../../shared")


def test_names_in_a_folder_count_and_not_only_texts(folder: Path) -> None:
    before = hash_of(folder)
    (folder / "files" / "one").rename(folder / "files" / "uno")
    assert hash_of(folder) != before


def test_file_that_is_not_text_by_its_name_is_hashed(folder: Path) -> None:
    before = hash_of(folder)
    (folder / os.fsdecode(b"\xff")).touch()
    assert hash_of(folder) != before
