"""Where exports are written: whole or not at all, and messages that tell why not."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from pytest_carthage.errors import BuildError, HostError
from pytest_carthage.images.exports.epoch import epoch
from pytest_carthage.images.exports.failures import program_failure, refusal
from pytest_carthage.images.exports.places import new_file, room
from pytest_carthage.images.exports.results import save
from pytest_carthage.images.exports.tools import check_tools, completed, require
from pytest_carthage.store.root import Store
from tests.images.handmade import Images

DOING = "image 'x': saved as y"


def write(path: Path, error: BaseException | None = None) -> None:
    """Write a file, or half of it before an error."""
    with new_file(path, DOING) as new:
        new.write_text("half" if error is not None else "all")
        if error is not None:
            raise error


def test_file_takes_the_place_of_an_older_one_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "disk.img"
    path.write_text("old")
    with new_file(path, DOING) as new:
        new.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert [entry.name for entry in tmp_path.iterdir()] == ["disk.img"]


@pytest.mark.parametrize("error", [KeyError("x"), KeyboardInterrupt(), asyncio.CancelledError()])
def test_file_that_was_not_finished_is_gone(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "disk.img"
    path.write_text("old")
    with pytest.raises(type(error)):
        write(path, error)
    assert [(entry.name, entry.read_text()) for entry in tmp_path.iterdir()] == [
        ("disk.img", "old")
    ]


def test_kernels_refusal_has_a_remedy(tmp_path: Path) -> None:
    path = tmp_path / "disk.img"
    with pytest.raises(BuildError, match=r"^image 'x': saved as y: No space left on device\n"):
        write(path, OSError(errno.ENOSPC, "No space left on device"))
    assert list(tmp_path.iterdir()) == []


def test_file_that_another_process_writes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "disk.img"
    with new_file(path, DOING) as first:
        first.write_text("first")
        with pytest.raises(BuildError, match=rf"y: another process writes {path} now$"):
            write(path)
        assert first.read_text() == "first"
    assert path.read_text() == "first"


def test_what_a_process_left_that_was_killed_while_writing_is_taken_over(tmp_path: Path) -> None:
    code = textwrap.dedent("""
        import sys, time
        from pathlib import Path
        from pytest_carthage.images.exports.places import new_file
        with new_file(Path(sys.argv[1]), "a test") as new:
            new.write_text("half of it, and much more than there will be")
            print("writing", flush=True)
            time.sleep(60)
    """)
    path = tmp_path / "disk.img"
    argv = [sys.executable, "-c", code, str(path)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "writing\n"
        assert not path.exists()
        process.send_signal(signal.SIGKILL)
    assert [entry.name for entry in tmp_path.iterdir()] == [".disk.img.new"]
    with new_file(path, DOING) as new:
        assert new.read_text() == ""
        new.write_text("all")
    assert [(entry.name, entry.read_text()) for entry in tmp_path.iterdir()] == [
        ("disk.img", "all")
    ]


def test_place_that_cannot_be_written_to_is_told(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=rf"y: {tmp_path} is a folder; try: a file in it$"):
        write(tmp_path)
    with pytest.raises(BuildError, match=r"y: No such file .*; try: make the folder first$"):
        write(tmp_path / "no" / "disk.img")
    with pytest.raises(BuildError, match=r"y: .* \(/proc/\.disk\.img\.new\)"):
        write(Path("/proc/disk.img"))


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.EACCES, "; try: a folder that you may write to"),
        (errno.EROFS, "; try: a folder that you may write to"),
        (errno.ENOTDIR, "; try: make the folder first"),
        (errno.EIO, ""),
    ],
)
def test_refusal_ends_with_what_to_do(number: int, advice: str) -> None:
    error = OSError(number, os.strerror(number), "/there")
    text = f"{DOING}: {os.strerror(number)} (/there){advice}"
    assert str(refusal(DOING, error)) == text


def test_full_disk_is_told_with_the_space_of_each_place_once(tmp_path: Path) -> None:
    text = str(refusal(DOING, OSError(errno.EDQUOT, "Disk quota exceeded"), tmp_path, tmp_path))
    assert text.count(f"{tmp_path} has ") == 1
    below = tmp_path / "not" / "yet"
    assert f"{below} has " in str(refusal(DOING, OSError(errno.ENOSPC, "full"), below))
    assert "a disk is full; try: free some" in str(refusal(DOING, OSError(errno.ENOSPC, "full")))


def test_program_that_failed_is_told_by_its_last_lines() -> None:
    said = "\n".join(f"line {number}" for number in range(40))
    lines = str(program_failure(DOING, "mke2fs", 3, said, [], "try: this")).splitlines()
    assert lines[0] == f"{DOING}: mke2fs ended with status 3:"
    assert lines[1:] == [*(f"  line {number}" for number in range(28, 40)), "try: this"]
    full = str(program_failure(DOING, "mke2fs", 3, "x: No space left on device", [], "try: this"))
    assert "try: this" not in full
    assert full.endswith("another disk (CARTHAGE_IMAGES is where that store is)")


def test_completed_gives_what_was_printed_and_tells_what_failed() -> None:
    async def both() -> None:
        assert await completed(["sh", "-c", "echo out; echo err >&2"], doing=DOING) == "out\n"
        command = ["sh", "-c", "echo out; echo cause >&2; exit 4"]
        message = rf"^{DOING}: a tool ended with status 4:\n  cause\ntry: cause$"
        with pytest.raises(BuildError, match=message):
            await completed(command, doing=DOING, program="a tool", advice=lambda s: f"try: {s}")
        with pytest.raises(BuildError, match=rf"^{DOING}: no-such-program ended with status 127:"):
            await completed(["no-such-program"], doing=DOING)

    asyncio.run(both())


def test_missing_program_is_told_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pytest_carthage.fabric.host.programs.PATH", "/nowhere")
    with pytest.raises(HostError, match=r"no zstd, which compresses \.zst"):
        require("zstd")
    assert [problem.packages for problem in check_tools(["mke2fs", "xz"])] == [
        ("e2fsprogs",),
        ("xz-utils",),
    ]


# rooms


def test_room_is_gone_afterwards_with_those_of_the_dead(tmp_path: Path) -> None:
    store = Store(tmp_path / "images")
    store.prepare()
    dead = store.folder("work") / "result-dead"
    dead.mkdir()
    (dead / "half").touch()

    async def work() -> None:
        async with room(store, DOING) as first, room(store, DOING) as second:
            (first / "file").touch()
            assert first != second
            assert {path.name for path in store.folder("work").iterdir()} == {
                first.name,
                second.name,
            }

    asyncio.run(work())
    assert list(store.folder("work").iterdir()) == []


def test_room_that_is_left_by_an_error_is_gone_and_the_error_is_told(tmp_path: Path) -> None:
    store = Store(tmp_path / "images")
    store.prepare()

    async def fail(error: BaseException) -> None:
        async with room(store, DOING) as folder:
            (folder / "file").touch()
            raise error

    with pytest.raises(BuildError, match=r"^image 'x': saved as y: Read-only file system; try: a"):
        asyncio.run(fail(OSError(errno.EROFS, "Read-only file system")))
    with pytest.raises(ValueError, match="as it is"):
        asyncio.run(fail(ValueError("as it is")))
    assert list(store.folder("work").iterdir()) == []


def test_room_in_a_store_that_is_no_folder_is_told(tmp_path: Path) -> None:
    store = Store(tmp_path / "images")
    store.prepare()
    store.folder("work").rmdir()
    store.folder("work").touch()

    async def work() -> None:
        async with room(store, DOING):
            raise AssertionError("there is no room")

    with pytest.raises(BuildError, match=r"^image 'x': saved as y: Not a directory \(.*/work/res"):
        asyncio.run(work())


# what an export is, and when


@pytest.mark.parametrize("text", ["-1", "1.5", "today", "²"])
def test_epoch_that_is_no_number_is_told(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", text)
    with pytest.raises(BuildError, match=rf"SOURCE_DATE_EPOCH is '{text}', which is no number of"):
        epoch()


def test_epoch_is_seconds_or_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    assert epoch() == 1_700_000_000
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "")
    assert epoch() is None


@pytest.mark.parametrize("name", ["disk", "image.zip", "image.tar.bz2"])
def test_name_that_says_nothing_of_what_it_is_to_be_is_refused(tmp_path: Path, name: str) -> None:
    images = Images(tmp_path / "images")
    built = images.built(images.layer("base"))
    with pytest.raises(
        BuildError, match=rf"'handmade': '{name}' does not say what it is to be; tr"
    ):
        asyncio.run(save(built, tmp_path / name))
    assert not (tmp_path / name).exists()
