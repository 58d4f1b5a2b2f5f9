"""Tars: headers that any reader takes, sinks that say what failed, folders as layers or merged."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import io
import os
import random
import socket
import stat
import subprocess
import tarfile
import zlib
from pathlib import Path
from typing import Any

import pytest

from pytest_carthage.errors import BuildError
from pytest_carthage.images.exports.tars.headers import BLOCK, header, padding
from pytest_carthage.images.exports.tars.packing import Packed, pack
from pytest_carthage.images.exports.tars.program import pack as pack_here
from pytest_carthage.images.exports.tars.sinks import ZEROS, Gzip, Sink, write_all
from pytest_carthage.images.exports.tars.tree import Tar, Unpackable

AS_ROOT = os.geteuid() == 0


def info(mode: int = stat.S_IFREG | 0o644, uid: int = 0, gid: int = 0, mtime: int = 5) -> Any:
    return os.stat_result((mode, 0, 0, 1, uid, gid, 0, 0, mtime, 0))


def read_header(name: bytes, *, kind: bytes = b"0", facts: Any = None, **more: Any) -> Any:
    """What tarfile makes of a header."""
    data = header(name, kind, facts or info(), **more) + bytes(2 * BLOCK)
    with tarfile.open(fileobj=io.BytesIO(data), errors="surrogateescape") as tar:
        (member,) = tar.getmembers()
    return member


def tar_of(*folders: Path, is_layer: bool = False, epoch: int | None = None) -> dict[str, Any]:
    """Members of folders' tar, by name."""
    out = io.BytesIO()
    tar = Tar(out.write, epoch=epoch, is_layer=is_layer)
    tar.add([os.fsencode(folder) for folder in folders])
    tar.end()
    assert tar.size == len(out.getvalue())
    out.seek(0)
    with tarfile.open(fileobj=out, errors="surrogateescape") as read:
        members = read.getmembers()
        assert tar.entries == len(members) - 1  # the root
        return {
            member.name: (file.read() if (file := _file(read, member)) else member)
            for member in members
        }


def _file(tar: tarfile.TarFile, member: tarfile.TarInfo) -> Any:
    return tar.extractfile(member) if member.isreg() else None


# headers


@pytest.mark.parametrize(
    "name",
    [
        b"a",
        b"f" * 100,
        b"f" * 101,
        b"d" * 60 + b"/" + b"f" * 90,
        b"d" * 155 + b"/" + b"f" * 100,
        b"d" * 156 + b"/" + b"f" * 100,
        b"d/" * 200 + b"f",
        "ümlaut/ß".encode(),
        b"latin-\xe9",
    ],
)
def test_name_of_any_length_is_read_as_it_was(name: bytes) -> None:
    assert os.fsencode(read_header(name).name) == name


def test_folder_with_a_long_name_is_not_split_at_its_last_slash() -> None:
    name = b"d" * 120 + b"/"
    member = read_header(name, kind=b"5", facts=info(stat.S_IFDIR | 0o750))
    assert os.fsencode(member.name) == name.rstrip(b"/")
    assert (member.isdir(), member.mode) == (True, 0o750)
    # rather than with an empty name, which readers take for the end
    assert header(name, b"5", info()).startswith(b"PaxHeaders\0")


def test_link_of_any_length_is_read_as_it_was() -> None:
    for length in (1, 100, 101, 300):
        member = read_header(b"link", kind=b"2", link=b"t" * length)
        assert (member.issym(), member.linkname) == (True, "t" * length)


@pytest.mark.parametrize("number", [0, 1000, 0o7777777, 0o7777777 + 1, 3_000_000_000])
def test_owner_of_any_number_is_read_as_it_was(number: int) -> None:
    member = read_header(b"file", facts=info(uid=number, gid=number))
    assert (member.uid, member.gid) == (number, number)


def test_size_beyond_eight_gibibytes_has_a_record() -> None:
    size = (8 << 30) + 5
    data = header(b"big", b"0", info(), size=size)
    assert b" size=8589934597\n" in data
    assert len(data) == 3 * BLOCK


def test_time_is_no_newer_than_the_epoch_and_never_negative() -> None:
    assert read_header(b"file", facts=info(mtime=50)).mtime == 50
    assert read_header(b"file", facts=info(mtime=50), epoch=7).mtime == 7
    assert read_header(b"file", facts=info(mtime=-50)).mtime == 0
    assert read_header(b"file", facts=info(mtime=0o77777777777 + 1)).mtime == 0o77777777777 + 1


def test_attributes_are_pax_records() -> None:
    records = {b"SCHILY.xattr.user.a": b"x=y\n", b"SCHILY.xattr.user.b": b"z" * 95}
    member = read_header(b"file", records=records)
    assert member.pax_headers == {name.decode(): text.decode() for name, text in records.items()}
    assert len(records) == 2  # what was given is left alone


def test_padding_ends_a_block() -> None:
    assert [len(padding(size)) for size in (0, 1, 511, 512, 513)] == [0, 511, 1, 0, 511]


# sinks


def test_sink_takes_all_in_order() -> None:
    taken: list[bytes] = []
    sink = Sink(taken.append)
    for number in range(100):
        sink.put(b"%d" % number)
    sink.close()
    assert taken == [b"%d" % number for number in range(100)]


def test_sink_that_fails_says_so_to_who_feeds_it() -> None:
    def full(data: bytes) -> None:
        raise OSError(errno.ENOSPC, "full")

    def feed() -> None:
        for _ in range(1000):
            sink.put(b"x")

    sink = Sink(full)
    with pytest.raises(OSError, match="full"):
        feed()
    with pytest.raises(OSError, match="full"):
        sink.close()


@pytest.mark.parametrize("size", [0, 1, (1 << 20) - 1, 1 << 20, (5 << 20) + 3])
def test_gzip_member_of_many_blocks_is_read_as_one(size: int) -> None:
    # its period is such that a block repeats what is right before it, and not its beginning
    data = (random.Random(size).randbytes(20_011) * (size // 20_011 + 1))[:size]
    out = io.BytesIO()
    gzip = Gzip(out.write)
    for start in range(0, size, 300_001):
        gzip.put(data[start : start + 300_001])
    gzip.close()
    reader = zlib.decompressobj(16 + zlib.MAX_WBITS)
    assert reader.decompress(out.getvalue()) == data
    assert (reader.eof, reader.unused_data) == (True, b"")


def test_write_all_goes_on_where_the_kernel_took_a_part() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        sink = Sink(lambda data: write_all(ours.fileno(), data))
        sink.put(b"x" * 1_000_000)
        received = 0
        while received < 1_000_000:
            received += len(theirs.recv(1 << 16))
        sink.close()


# folders


def test_merged_folders_show_the_top_ones_files(tmp_path: Path) -> None:
    low, top = tmp_path / "low", tmp_path / "top"
    for folder in (low, top):
        (folder / "both").mkdir(parents=True)
        (folder / "file").write_text(folder.name)
        (folder / "both" / folder.name).write_text(folder.name)
    (low / "folder-then-file").mkdir()
    (low / "folder-then-file" / "below").touch()
    (top / "folder-then-file").write_text("a file now")
    members = tar_of(top, low)
    assert members["file"] == b"top"
    assert (members["both/low"], members["both/top"]) == (b"low", b"top")
    assert members["folder-then-file"] == b"a file now"
    assert "folder-then-file/below" not in members


def test_file_between_two_folders_hides_the_lower_one(tmp_path: Path) -> None:
    top, middle, low = (tmp_path / name for name in ("top", "middle", "low"))
    for folder in (top, low):
        (folder / "etc").mkdir(parents=True)
        (folder / "etc" / folder.name).touch()
    middle.mkdir()
    (middle / "etc").touch()
    assert set(tar_of(top, middle, low)) == {".", "etc", "etc/top"}


@pytest.mark.skipif(not AS_ROOT, reason="whiteouts and opaque folders are made by root")
def test_deletions_are_told_in_a_layer_and_done_where_folders_are_merged(tmp_path: Path) -> None:
    low, top = tmp_path / "low", tmp_path / "top"
    (low / "opaque").mkdir(parents=True)
    (low / "opaque" / "hidden").touch()
    (low / "gone").touch()
    (top / "opaque").mkdir(parents=True)
    os.setxattr(top / "opaque", "trusted.overlay.opaque", b"y")
    os.mknod(top / "gone", stat.S_IFCHR, os.makedev(0, 0))
    assert set(tar_of(top, low)) == {".", "opaque"}
    layer = tar_of(top, is_layer=True)
    assert set(layer) == {".", ".wh.gone", "opaque", "opaque/.wh..wh..opq"}
    assert layer[".wh.gone"] == b""


def test_links_devices_pipes_and_sockets(tmp_path: Path) -> None:
    (tmp_path / "first").write_text("same")
    os.link(tmp_path / "first", tmp_path / "second")
    (tmp_path / "pipe").symlink_to("nowhere")
    os.mkfifo(tmp_path / "z-fifo")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket"))
        members = tar_of(tmp_path)
    assert members["first"] == b"same"
    assert (members["second"].islnk(), members["second"].linkname) == (True, "first")
    assert (members["pipe"].issym(), members["pipe"].linkname) == (True, "nowhere")
    assert members["z-fifo"].isfifo()
    assert "socket" not in members


def test_file_that_would_delete_another_is_refused_in_a_layer_only(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / ".wh.passwd").touch()
    assert "etc/.wh.passwd" in tar_of(tmp_path)
    message = r"^/etc/\.wh\.passwd: a file that begins with \.wh\. would delete another in a layer"
    with pytest.raises(Unpackable, match=message):
        tar_of(tmp_path, is_layer=True)


@pytest.mark.skipif(not AS_ROOT, reason="only root sets attributes of an overlay")
@pytest.mark.parametrize("attribute", ["trusted.overlay.redirect", "trusted.overlay.metacopy"])
def test_file_that_names_another_elsewhere_is_refused(tmp_path: Path, attribute: str) -> None:
    (tmp_path / "file").touch()
    os.setxattr(tmp_path / "file", attribute, b"/elsewhere")
    with pytest.raises(Unpackable, match=rf"^/file: made by an overlay .* \({attribute}\), which"):
        tar_of(tmp_path)


def test_file_that_becomes_shorter_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "log").write_bytes(b"x" * 1000)
    monkeypatch.setattr("os.pread", lambda fd, size, offset: b"")
    with pytest.raises(Unpackable, match=r"^/log became shorter while it was read$"):
        tar_of(tmp_path)


# the program


def packed(folder: Path, out: int, **more: Any) -> Packed:
    return asyncio.run(pack([folder], out, doing="a test", places=[folder], is_layer=False, **more))


def test_program_writes_what_it_hashes(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "file").write_bytes(b"x" * 3_000_000)
    with (tmp_path / "out.tar").open("wb") as file:
        plain = packed(tree, file.fileno())
    data = (tmp_path / "out.tar").read_bytes()
    assert plain.digest == f"sha256:{hashlib.sha256(data).hexdigest()}"
    assert (plain.size, plain.entries, plain.packed_digest) == (len(data), 1, "")
    assert packed(tree, -1) == plain
    with (tmp_path / "out.tar.gz").open("wb") as file:
        gzipped = packed(tree, file.fileno(), compress=True)
    small = (tmp_path / "out.tar.gz").read_bytes()
    assert zlib.decompress(small, 16 + zlib.MAX_WBITS) == data
    assert (gzipped.digest, gzipped.size) == (plain.digest, plain.size)
    assert gzipped.packed_digest == f"sha256:{hashlib.sha256(small).hexdigest()}"
    assert gzipped.packed_size == len(small)


def test_program_that_cannot_write_says_why(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x" * 3_000_000)
    with Path("/dev/full").open("wb") as full:
        message = r"^a test: No space left on device\n.* has \d+ MiB free; try: free some"
        with pytest.raises(BuildError, match=message):
            packed(tmp_path, full.fileno())
    read, write = os.pipe()
    os.close(read)
    try:
        with pytest.raises(BuildError, match=r"^a test: \[Errno 32\] Broken pipe$"):
            packed(tmp_path, write)
    finally:
        os.close(write)


def test_program_that_finds_what_no_tar_has_names_it(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"^a test: .*No such file or directory: .*/nowhere"):
        packed(tmp_path / "nowhere", -1)
    (tmp_path / ".wh.file").touch()
    message = r"^a test: /\.wh\.file: .*; try: change the task that makes it$"
    with pytest.raises(BuildError, match=message):
        asyncio.run(pack([tmp_path], -1, doing="a test", places=[], is_layer=True))


def test_program_that_is_cancelled_ends(tmp_path: Path) -> None:
    """Nobody reads what it writes: without an end it would wait for ever."""
    (tmp_path / "file").write_bytes(os.urandom(1 << 20))
    read, write = os.pipe()

    async def cancelled() -> None:
        packing = asyncio.create_task(
            pack([tmp_path], write, doing="a test", places=[], is_layer=False)
        )
        while not await asyncio.to_thread(os.read, read, 1):
            pass
        packing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await packing

    asyncio.run(cancelled())
    os.close(write)
    with os.fdopen(read, "rb") as rest:
        rest.read()  # comes to its end: nobody else has the pipe


def test_same_files_give_the_same_bytes_whatever_their_order(tmp_path: Path) -> None:
    folders = tmp_path / "one", tmp_path / "two"
    names = ["b", "a", "c-1", "c", "ä"]
    for folder, order in zip(folders, (names, names[::-1]), strict=True):
        folder.mkdir()
        for name in order:
            (folder / name).write_text(name)
            os.utime(folder / name, (5, 5))
        os.utime(folder, (5, 5))
    request = {"epoch": None, "layer": False, "hash": True, "gzip": False}
    digests = {pack_here({**request, "trees": [str(folder)]}, -1)["digest"] for folder in folders}
    assert len(digests) == 1


# holes and times


def with_holes(path: Path) -> None:
    """4 KiB of content in the middle of 64 MiB."""
    with path.open("wb") as file:
        file.seek(32 << 20)
        file.write(b"x" * 4096)
        file.truncate(64 << 20)


def written(folder: Path, *, sparse: bool) -> bytes:
    out = io.BytesIO()
    tar = Tar(out.write, epoch=None, is_layer=False, sparse=sparse)
    tar.add([os.fsencode(folder)])
    tar.end()
    assert tar.size == len(out.getvalue())
    return out.getvalue()


def test_file_with_holes_is_as_large_as_its_content(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    name = "n" * 150
    with_holes(tree / name)
    (tree / "none").write_bytes(b"")
    os.truncate(tree / "none", 1 << 30)
    os.link(tree / name, tree / "same")
    data = written(tree, sparse=True)
    assert len(data) < 20 << 10
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        member = tar.getmember(name)
        assert member.size == 64 << 20
        file = tar.extractfile(member)
        assert file is not None
        assert hashlib.file_digest(file, "sha256").digest() == (  # type: ignore[arg-type]
            hashlib.sha256((tree / name).read_bytes()).digest()
        )
        assert tar.getmember("none").size == 1 << 30
        assert tar.getmember("same").linkname == name


def test_holes_are_holes_again_for_tar(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    with_holes(tmp_path / "tree/file")
    (tmp_path / "out").mkdir()
    command = ["tar", "--extract", "--directory", str(tmp_path / "out")]
    subprocess.run(command, input=written(tmp_path / "tree", sparse=True), check=True)
    there = tmp_path / "out/file"
    assert there.read_bytes() == (tmp_path / "tree/file").read_bytes()
    assert there.stat().st_blocks * 512 < 1 << 20


def test_holes_are_zeros_where_not_every_reader_knows_them(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    with_holes(tmp_path / "tree/file")
    data = written(tmp_path / "tree", sparse=False)
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        assert tar.getmember("file").sparse is None
        file = tar.extractfile("file")
        assert file is not None
        assert file.read() == (tmp_path / "tree/file").read_bytes()


def test_zeros_are_compressed_once_and_read_as_they_were() -> None:
    pieces: list[bytes] = []
    compressor = Gzip(pieces.append)
    content = [b"head", *[ZEROS] * 5, b"x" * 100, *[ZEROS] * 3, bytes(7), ZEROS, b"tail"]
    for piece in content:
        compressor.put(piece)
    compressor.close()
    assert zlib.decompress(b"".join(pieces), wbits=31) == b"".join(content)
    assert len(b"".join(pieces)) < 20_000


def test_times_are_told_to_the_nanosecond(tmp_path: Path) -> None:
    for name, when in (("old", 123456789), ("even", 5 * 10**9), ("new", 16 * 10**17 + 1)):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, ns=(when, when))
    members = tar_of(tmp_path)  # empty files are read as such
    data = written(tmp_path, sparse=False)
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        told = {member.name: member.pax_headers.get("mtime", "") for member in tar}
    assert (told["old"], told["even"], told["new"]) == ("0.123456789", "", "1600000000.000000001")
    assert members.keys() == told.keys()
    limited = tarfile.open(  # noqa: SIM115
        fileobj=io.BytesIO(header(b"new", b"0", (tmp_path / "new").stat(), epoch=7) + bytes(1024))
    )
    assert limited.getmember("new").mtime == 7
