"""What a fabric and an agent say to each other goes whole or not at all."""

from __future__ import annotations

import array
import os
import socket
from pathlib import Path

import pytest

from pytest_carthage.fabric.wire import frames
from pytest_carthage.fabric.wire.control import Control
from tests.fabric.peer import descriptors


def test_message_arrives_with_its_descriptor(tmp_path: Path) -> None:
    near, far = Control.pair()
    with (tmp_path / "file").open("w") as file:
        near.send({"id": 1}, (file.fileno(),))
        near.send({"op": "terminate"})
        message, (fd,) = far.receive()
        assert os.path.samestat(os.fstat(fd), os.fstat(file.fileno()))
    os.close(fd)
    assert message == {"id": 1}
    assert far.receive() == ({"op": "terminate"}, [])
    with pytest.raises(BlockingIOError):
        far.receive()
    near.close()
    with pytest.raises(frames.Closed, match="closed"):
        far.receive()
    far.close()


def test_end_that_takes_nothing_any_more_keeps_nobody_waiting() -> None:
    near, far = Control.pair()
    sent = 0
    is_full = False
    while not is_full and sent < 100_000:
        try:
            near.send({"id": sent})
            sent += 1
        except BlockingIOError:
            is_full = True
    assert is_full
    assert sent > 10
    for number in range(sent):  # whole, each of them
        assert far.receive()[0] == {"id": number}
    near.close()
    far.close()


@pytest.mark.parametrize("data", [b"{", b"[]", b"5", b"\xff", b"[" * 30_000])
def test_what_is_no_message_is_malformed(data: bytes) -> None:
    near, far = Control.pair()
    near.sock.send(data)
    with pytest.raises(frames.Malformed):
        far.receive()
    near.close()
    far.close()


def test_descriptors_that_are_too_many_are_closed() -> None:
    near, far = Control.pair()
    before = descriptors()
    rights = array.array("i", [near.fileno()] * 3)
    near.sock.sendmsg([b"{}"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
    with pytest.raises(frames.Malformed, match="too many descriptors"):
        far.receive()
    assert descriptors() <= before
    near.close()
    far.close()
