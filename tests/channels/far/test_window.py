"""Files that go to a virtual machine through the end of a disk that it reads."""

from __future__ import annotations

import ctypes
import mmap
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_carthage.channels.far.program import agent_program
from pytest_carthage.channels.far.window import PIECE, SERIAL, add_window
from pytest_carthage.errors import FabricError
from tests.channels.conftest import Bench
from tests.channels.far.ports import Port, deputy

_LIBC = ctypes.CDLL(None, use_errno=True)


class Disk:
    """The disk of a machine, which sees it where a kernel shows its disks."""

    def __init__(self, folder: Path) -> None:
        self.image = folder / "dev/vdb"
        self.image.parent.mkdir()
        self.image.write_bytes(b"seed" * 1000)
        add_window(self.image)
        serial = folder / "block/vdb/serial"
        serial.parent.mkdir(parents=True)
        serial.write_text(f"{SERIAL}\n")
        program = agent_program()
        for name, there in (("/sys/class/block", folder / "block"), ("/dev", folder / "dev")):
            assert f"= '{name}'\n" in program
            program = program.replace(f"= '{name}'\n", f"= '{there}'\n")
        #: of an agent that sees this disk and no other one
        self.program = program

    def has_shown(self, data: bytes) -> bool:
        """Whether this has been in the window."""
        return data in self.image.read_bytes()


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    folder = tmp_path / "machine"
    folder.mkdir()
    return Disk(folder)


@pytest.fixture
def port(tmp_path: Path, disk: Disk) -> Iterator[Port]:
    made = Port(tmp_path, disk.program)
    yield made
    made.close()


@pytest.fixture
def bench(port: Port, disk: Disk) -> Iterator[Bench]:
    with deputy(port, window=disk.image) as made:
        assert made.run("true")[0] == 0
        yield made


def _cached(path: Path) -> int:
    """How many pages of a file are in memory; see mincore(2)."""
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as view:
        pages = -(-len(view) // mmap.PAGESIZE)
        told = (ctypes.c_ubyte * pages)()
        first = ctypes.c_char.from_buffer(view)
        failed = _LIBC.mincore(ctypes.byref(first), ctypes.c_size_t(len(view)), told)
        del first
        assert not failed, os.strerror(ctypes.get_errno())
    return sum(page & 1 for page in told)


def _takes_directly(folder: Path) -> bool:
    """Whether a file system writes past its caches what is written so: one in memory does not."""
    path = folder / "probe"
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_DIRECT)
    except OSError:
        return False
    with mmap.mmap(-1, PIECE) as data:
        os.write(fd, data)
    os.close(fd)
    return not _cached(path)


def test_file_that_is_put_is_the_same_with_its_holes(
    bench: Bench, disk: Disk, tmp_path: Path
) -> None:
    source, there = tmp_path / "source", tmp_path / "there"
    head, middle, last = os.urandom(5000), os.urandom(3 * PIECE + 200_123), os.urandom(77)
    with source.open("wb") as file:
        file.write(head)  # too little for the window
        file.seek(9 * PIECE)
        file.write(middle)
        file.seek(20 * PIECE + 1)
        file.write(last)
        file.truncate(30 * PIECE + 5)
    bench.files().put(source, str(there))
    assert there.read_bytes() == source.read_bytes()
    assert there.stat().st_blocks * 512 < 5 * PIECE
    assert disk.has_shown(middle[:PIECE])
    assert not disk.has_shown(head)


def test_file_of_many_pieces_is_put_past_all_caches(bench: Bench, tmp_path: Path) -> None:
    if not _takes_directly(tmp_path):
        pytest.skip(f"{tmp_path} is in memory, where nothing is past all caches")
    source, there = tmp_path / "source", tmp_path / "there"
    source.write_bytes(os.urandom(41 * PIECE - 1))
    bench.files().put(source, str(there))
    # the last block is no whole one
    assert _cached(there) <= 1
    assert there.read_bytes() == source.read_bytes()


def test_file_that_is_put_above_a_longer_one_is_cut(bench: Bench, tmp_path: Path) -> None:
    source, there = tmp_path / "source", tmp_path / "there"
    there.write_bytes(b"x" * 5 * PIECE)
    source.write_bytes(os.urandom(3 * PIECE - 1000))
    bench.files().put(source, str(there))
    assert there.read_bytes() == source.read_bytes()


def test_what_is_no_file_takes_what_is_put(bench: Bench, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(os.urandom(PIECE))
    with pytest.raises(OSError, match="No space left on device: '/dev/full'"):
        bench.files().put(source, "/dev/full")


def test_files_that_are_put_at_once_are_whole(bench: Bench, tmp_path: Path) -> None:
    sources = [tmp_path / f"source{number}" for number in range(3)]
    for source in sources:
        source.write_bytes(os.urandom(20 * PIECE))
    files = bench.files()
    threads = [
        threading.Thread(target=files.put, args=(source, str(source) + "-there"))
        for source in sources
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    for source in sources:
        assert Path(f"{source}-there").read_bytes() == source.read_bytes()


def test_agent_that_is_killed_as_it_takes_is_succeeded_by_one_that_sees_the_disk(
    bench: Bench, port: Port, disk: Disk, tmp_path: Path
) -> None:
    source, there = tmp_path / "source", tmp_path / "there"
    source.write_bytes(os.urandom(200 * PIECE))

    def kill() -> None:
        while not there.exists() or not there.stat().st_size:
            time.sleep(0.001)
        port.kill()
        port.start()

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(FabricError, match="machine 'web'"):
        bench.files().put(source, str(there))
    killer.join(10)
    bench.forget()
    content = os.urandom(2 * PIECE)
    source.write_bytes(content)
    bench.files().put(source, str(there))
    assert there.read_bytes() == content
    assert disk.has_shown(content[:PIECE])
