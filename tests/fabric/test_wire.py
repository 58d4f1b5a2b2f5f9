"""Frames and the descriptors that travel with them."""

from __future__ import annotations

import json
import os
import socket
import struct
from pathlib import Path

import pytest

from pytest_carthage.fabric import wire


@pytest.fixture
def pair() -> tuple[socket.socket, socket.socket]:
    return socket.socketpair()


def test_frame_with_descriptor_arrives_whole(
    pair: tuple[socket.socket, socket.socket], tmp_path: Path
) -> None:
    near, far = pair
    path = tmp_path / "file"
    path.write_text("through a descriptor")
    with near, far, path.open() as file:
        wire.send(near, {"id": 1, "op": "x", "text": "ü" * 20_000}, (file.fileno(),))
        message, fds = wire.receive(far)
    assert message["text"] == "ü" * 20_000
    with os.fdopen(fds[0]) as arrived:
        assert arrived.read() == "through a descriptor"


def test_receive_takes_not_a_byte_of_the_next_frame(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    near, far = pair
    with near, far:
        wire.send(near, {"id": 1})
        near.sendall(b"raw")
        assert wire.receive(far)[0] == {"id": 1}
        assert far.recv(10) == b"raw"


def test_receive_from_a_closed_end_raises_closed(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    near, far = pair
    near.sendall(struct.pack("!I", 100) + b"half")
    near.close()
    with far, pytest.raises(wire.Closed, match="in the middle of a frame"):
        wire.receive(far)


def test_decoder_puts_pieces_together_and_keeps_descriptors_apart(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    near, far = pair
    far.setblocking(False)
    decoder = wire.Decoder()
    body = json.dumps({"id": 7}).encode()
    with near, far:
        with pytest.raises(BlockingIOError):
            decoder.read(far)
        near.sendall(struct.pack("!I", len(body)) + body[:3])
        assert decoder.read(far) == []
        near.sendall(body[3:])
        assert decoder.read(far) == [({"id": 7}, [])]
        wire.send(near, {"id": 1}, (near.fileno(),))
        wire.send(near, {"id": 2})
        frames = decoder.read(far)
        while len(frames) < 2:
            frames += decoder.read(far)
    assert [(message["id"], len(fds)) for message, fds in frames] == [(1, 1), (2, 0)]
    os.close(frames[0][1][0])


def test_socket_path_longer_than_the_kernel_takes_works(tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 30) / ("longer" * 20)
    folder.mkdir(parents=True)
    path = str(folder / "socket")
    assert len(path) > 108
    with wire.listen(path) as listener, wire.connect(path) as client:
        near, _ = listener.accept()
        with near:
            wire.send(client, {"id": 3})
            assert wire.receive(near)[0] == {"id": 3}
    assert (folder / "socket").stat().st_mode & 0o777 == 0o600
