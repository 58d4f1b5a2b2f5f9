"""Files by the protocol of sftp, packet by packet."""

from __future__ import annotations

import os
import struct
import threading
from pathlib import Path

import pytest

from pytest_carthage.fabric.sftp import packets as words
from pytest_carthage.fabric.sftp.packets import Malformed, Reader, text
from pytest_carthage.fabric.sftp.server import Server, serve

NOTHING = struct.pack("!I", 0)


class Client:
    """Asks a server in this process."""

    def __init__(self, home: Path) -> None:
        self._server = Server(os.fsencode(home))

    def ask(self, kind: int, body: bytes) -> tuple[int, Reader]:
        """Ask; returns the kind of the answer, and what is in it."""
        reader = Reader(self._server.answer(struct.pack("!BI", kind, 77) + body))
        answer = reader.byte()
        assert reader.number() == 77
        return answer, reader

    def status(self, kind: int, body: bytes) -> int:
        answer, reader = self.ask(kind, body)
        assert answer == words.STATUS
        return reader.number()

    def extended(self, name: str, body: bytes) -> tuple[int, Reader]:
        return self.ask(words.EXTENDED, text(name.encode()) + body)

    def open(self, path: Path, flags: int, attributes: bytes = NOTHING) -> bytes:
        answer, reader = self.ask(
            words.OPEN, text(bytes(path)) + struct.pack("!I", flags) + attributes
        )
        assert answer == words.HANDLE
        return reader.text()


@pytest.fixture
def client(tmp_path: Path) -> Client:
    return Client(tmp_path)


def test_client_is_told_the_version_and_what_is_beyond_it(tmp_path: Path) -> None:
    reader = Reader(Server(bytes(tmp_path)).answer(struct.pack("!BI", words.INIT, 6)))
    assert (reader.byte(), reader.number()) == (words.VERSION, 3)
    assert (reader.text(), reader.text()) == (b"posix-rename@openssh.com", b"1")


def test_file_is_written_and_read_where_it_is_said(client: Client, tmp_path: Path) -> None:
    path = tmp_path / "new"
    mode = struct.pack("!II", 4, 0o640)
    handle = client.open(path, 1 | 2 | 8, mode)
    for offset, data in ((5, b"world"), (0, b"hello")):
        body = text(handle) + struct.pack("!Q", offset) + text(data)
        assert client.status(words.WRITE, body) == words.OK
    answer, reader = client.ask(words.READ, text(handle) + struct.pack("!QI", 3, 4))
    assert (answer, reader.text()) == (words.DATA, b"lowo")
    assert client.status(words.READ, text(handle) + struct.pack("!QI", 10, 4)) == words.EOF
    assert client.status(words.CLOSE, text(handle)) == words.OK
    assert path.read_text() == "helloworld"
    assert path.stat().st_mode & 0o777 == 0o640


def test_file_that_is_appended_to_keeps_what_it_has(client: Client, tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("old,")
    handle = client.open(path, 2 | 4)
    assert client.status(words.WRITE, text(handle) + struct.pack("!Q", 0) + text(b"new")) == 0
    assert path.read_text() == "old,new"


@pytest.mark.parametrize("kind", [words.CLOSE, words.FSTAT, words.READDIR])
def test_handle_that_is_none_is_refused(client: Client, kind: int) -> None:
    assert client.status(kind, text(b"f99")) == words.NO_SUCH_FILE


def test_folder_of_many_names_is_read_piece_by_piece(client: Client, tmp_path: Path) -> None:
    for number in range(230):
        (tmp_path / f"{number:03}").touch()
    (tmp_path / "odd\nname").symlink_to("nowhere")
    _, reader = client.ask(words.OPENDIR, text(bytes(tmp_path)))
    handle, names = reader.text(), set[bytes]()
    while True:
        answer, reader = client.ask(words.READDIR, text(handle))
        if answer == words.STATUS:
            break
        for _ in range(reader.number()):
            names.add(reader.text())
            assert reader.text()[:1] in b"-dl"
            reader.attributes()
    assert reader.number() == words.EOF
    assert len(names) == 233
    assert {b".", b"..", b"000", b"229", b"odd\nname"} <= names


def test_name_that_is_taken_is_not_renamed_over_but_in_posix_words(
    client: Client, tmp_path: Path
) -> None:
    (tmp_path / "old").write_text("old")
    (tmp_path / "new").write_text("new")
    body = text(bytes(tmp_path / "old")) + text(bytes(tmp_path / "new"))
    assert client.status(words.RENAME, body) == words.FAILURE
    _, reader = client.extended("posix-rename@openssh.com", body)
    assert reader.number() == words.OK
    assert (tmp_path / "new").read_text() == "old"


def test_times_of_a_link_are_its_own(client: Client, tmp_path: Path) -> None:
    link, target = tmp_path / "link", tmp_path / "target"
    target.touch()
    body = text(bytes(target)) + text(bytes(link))
    assert client.status(words.SYMLINK, body) == words.OK
    assert link.readlink() == target
    times = struct.pack("!III", 8, 1000, 2000)
    _, reader = client.extended("lsetstat@openssh.com", text(bytes(link)) + times)
    assert reader.number() == words.OK
    assert (link.lstat().st_mtime, target.stat().st_mtime == 2000) == (2000, False)


def test_file_is_made_shorter_by_its_attributes(client: Client, tmp_path: Path) -> None:
    (tmp_path / "long").write_text("0123456789")
    body = text(bytes(tmp_path / "long")) + struct.pack("!IQ", 1, 4)
    assert client.status(words.SETSTAT, body) == words.OK
    assert (tmp_path / "long").read_text() == "0123"


@pytest.mark.parametrize(
    ("path", "expected"), [(b"~", b"{}"), (b"~/x", b"{}/x"), (b"/etc/../etc", b"/etc")]
)
def test_path_is_expanded(client: Client, tmp_path: Path, path: bytes, expected: bytes) -> None:
    answer, reader = client.extended("expand-path@openssh.com", text(path))
    assert (answer, reader.number()) == (words.NAME, 1)
    assert reader.text() == expected.replace(b"{}", os.fsencode(tmp_path.resolve()))


@pytest.mark.parametrize(
    ("kind", "body", "status"),
    [
        (words.STAT, text(b"/no/such"), words.NO_SUCH_FILE),
        (words.READLINK, text(b"/"), words.FAILURE),
        (words.REMOVE, text(b"a\0b"), words.FAILURE),
        (99, b"", words.UNSUPPORTED),
        (words.EXTENDED, text(b"odd@example"), words.UNSUPPORTED),
    ],
)
def test_what_cannot_be_done_is_refused(
    client: Client, kind: int, body: bytes, status: int
) -> None:
    assert client.status(kind, body) == status


def test_packet_that_ends_too_early_ends_the_service(client: Client) -> None:
    with pytest.raises(Malformed, match="a packet that ends 2 bytes too early"):
        client.ask(words.STAT, struct.pack("!I", 5) + b"abc")


def test_packets_are_taken_as_they_come(tmp_path: Path) -> None:
    ours, theirs = os.pipe(), os.pipe()
    thread = threading.Thread(target=serve, args=(str(tmp_path), ours[0], theirs[1]))
    thread.start()
    packet = struct.pack("!IBI", 5, words.INIT, 3)
    os.write(ours[1], packet[:3])
    os.write(ours[1], packet[3:] + packet)
    os.close(ours[1])
    thread.join(10)
    os.close(theirs[1])
    with os.fdopen(theirs[0], "rb") as file:
        data = file.read()
    size = int.from_bytes(data[:4], "big")
    assert len(data) == 2 * (4 + size)
    assert data[4] == words.VERSION
    os.close(ours[0])


def test_packet_that_is_too_long_ends_the_service(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.write(writing, struct.pack("!I", 1 << 30))
    with pytest.raises(Malformed, match="a packet of 1073741824 bytes, more than 262144"):
        serve(str(tmp_path), reading, writing)
    os.close(reading)
    os.close(writing)
