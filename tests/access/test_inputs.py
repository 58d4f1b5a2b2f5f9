"""Files that a task has read: what counts of them, and what does not."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_carthage.access.inputs import Inputs, changed, hash_of
from pytest_carthage.access.template import render


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
