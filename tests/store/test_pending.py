"""Files of a person that are half written when their writer is killed: found, and removed later."""

from __future__ import annotations

import contextlib
import json
import secrets
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_carthage.errors import LockError
from pytest_carthage.fabric.host.claim import take
from pytest_carthage.images.exports.places import new_file, new_folder
from pytest_carthage.images.locks.lock import Lock
from pytest_carthage.store.pending import Pending
from pytest_carthage.store.pending import hidden as beside
from pytest_carthage.store.root import Store, pending


@pytest.fixture(autouse=True)
def notes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pending:
    monkeypatch.setenv("CARTHAGE_IMAGES", str(tmp_path / "images"))
    return pending()


def hidden(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name.startswith("."))


_LOCK = "Lock(path=path, layout='Lab', images={}, files={}, ansible=None).save()"
#: what is written, and where it waits to be killed
WRITERS = {
    "save and bundle": "with new_file(path, 'a test') as new: new.write_text('half'); wait()",
    "unbundle": "with new_folder(path, 0o755) as new: (new / 'half').write_text('x'); wait()",
    "lock": f"os.fsync = lambda fd: wait(); {_LOCK}",
    "lock, before it is written": f"os.pwrite = lambda *all: wait(); {_LOCK}",
    "before it is made": "os.open = closed; new_file(path, 'a test').__enter__()",
}
_SCRIPT = """
import os, sys, time
from pathlib import Path
from pytest_carthage.images.exports.places import new_file, new_folder
from pytest_carthage.images.locks.lock import Lock
path, real = Path(sys.argv[1]), os.open
def wait():
    print("now", flush=True)
    time.sleep(60)
def closed(name, *more, **fields):
    if str(name).endswith(".new"):
        wait()
    return real(name, *more, **fields)
"""


@pytest.mark.parametrize("writer", WRITERS)
def test_what_a_killed_process_has_half_written_goes_with_the_next(
    tmp_path: Path, writer: str, notes: Pending
) -> None:
    folder = tmp_path / "suite"
    folder.mkdir()
    argv = [sys.executable, "-c", f"{_SCRIPT}{WRITERS[writer]}", str(folder / "thing")]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "now\n"
        assert notes.dead() == []
        notes.sweep()  # it lives
        before = hidden(folder)
        process.send_signal(signal.SIGKILL)
    assert hidden(folder) == before
    dead = notes.dead()
    assert [path.name for path in dead] == before or not before
    Store().prepare()  # as every run and command that has images does
    assert hidden(folder) == []
    assert notes.dead() == []
    assert list(notes.folder.iterdir()) == []


def test_file_that_has_become_another_stays(tmp_path: Path, notes: Pending) -> None:
    note = notes.folder / "a.json"
    notes.folder.mkdir(parents=True)
    mine = tmp_path / ".thing.new"
    mine.write_text("mine")
    info = mine.stat()
    records: list[object] = [
        {"path": str(mine), "inode": [info.st_dev, info.st_ino + 1]},
        {"path": str(mine)},  # killed before anything was made
        {"path": str(tmp_path / "none" / "x")},
        {"inode": [1, 2]},
        [],
        "half",
    ]
    for record in records:
        note.write_text(json.dumps(record))
        notes.sweep()
        assert mine.read_text() == "mine"
        assert not note.exists()
    note.write_text('{"path": "')
    notes.sweep()
    assert not note.exists()


def test_file_that_somebody_else_writes_by_now_stays(tmp_path: Path, notes: Pending) -> None:
    notes.folder.mkdir(parents=True)
    theirs = tmp_path / ".thing.new"
    with take(theirs, create=0o600):
        info = theirs.stat()
        record = {"path": str(theirs), "inode": [info.st_dev, info.st_ino]}
        (notes.folder / "a.json").write_text(json.dumps(record))
        notes.sweep()
        assert theirs.exists()


def test_folder_that_is_there_and_full_stays_without_its_inode(
    tmp_path: Path, notes: Pending
) -> None:
    notes.folder.mkdir(parents=True)
    (tmp_path / ".mine/deep").mkdir(parents=True)
    (notes.folder / "a.json").write_text(json.dumps({"path": str(tmp_path / ".mine")}))
    notes.sweep()
    assert (tmp_path / ".mine/deep").is_dir()


def test_nothing_hidden_is_left_by_those_who_end(tmp_path: Path, notes: Pending) -> None:
    with new_file(tmp_path / "file", "a test") as new:
        new.write_text("x")
        assert len(list(notes.folder.iterdir())) == 1
    with new_folder(tmp_path / "folder", 0o750) as new:
        (new / "x").write_text("x")
    _give_up(tmp_path / "other")
    Lock(path=tmp_path / "lab.lock", layout="Lab", images={}, files={}, ansible=None).save()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "file",
        "folder",
        "images",
        "lab.lock",
    ]
    assert list(notes.folder.iterdir()) == []
    assert (tmp_path / "folder").stat().st_mode & 0o777 == 0o750


def _give_up(path: Path) -> None:
    with contextlib.suppress(ZeroDivisionError), new_folder(path, 0o750) as new:
        (new / "x").write_text("x")
        raise ZeroDivisionError


def test_lock_that_cannot_be_written_is_told_and_leaves_nothing(
    tmp_path: Path, notes: Pending
) -> None:
    lock = Lock(path=tmp_path / "none/lab.lock", layout="Lab", images={}, files={}, ansible=None)
    with pytest.raises(LockError, match="it cannot be written: No such file or directory"):
        lock.save()
    assert list(notes.folder.iterdir()) == []


def test_who_can_note_nothing_writes_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    Pending(tmp_path / "file/below").write(tmp_path / "text", "x")
    assert (tmp_path / "text").read_text() == "x"
    monkeypatch.setattr(secrets, "token_hex", lambda size: "same")
    assert beside(tmp_path / "text").name == ".text.same.new"


def test_sweeping_makes_nothing_where_nothing_is(notes: Pending) -> None:
    notes.sweep()
    assert not notes.folder.exists()
