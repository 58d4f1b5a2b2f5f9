"""Frames and the descriptors that travel with them."""

from __future__ import annotations

import array
import contextlib
import json
import os
import socket
import struct
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_carthage.fabric.wire import frames
from tests.fabric.peer import descriptors


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
        frames.send(near, {"id": 1, "op": "x", "text": "ü" * 20_000}, (file.fileno(),))
        message, fds = frames.receive(far)
    assert message["text"] == "ü" * 20_000
    with os.fdopen(fds[0]) as arrived:
        assert arrived.read() == "through a descriptor"


def test_receive_takes_not_a_byte_of_the_next_frame(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    near, far = pair
    with near, far:
        frames.send(near, {"id": 1})
        near.sendall(b"raw")
        assert frames.receive(far)[0] == {"id": 1}
        assert far.recv(10) == b"raw"


def test_receive_from_a_closed_end_raises_closed(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    near, far = pair
    near.sendall(struct.pack("!I", 100) + b"half")
    near.close()
    with far, pytest.raises(frames.Closed, match="in the middle of a frame"):
        frames.receive(far)


def test_decoder_puts_pieces_together_and_keeps_descriptors_apart(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    near, far = pair
    far.setblocking(False)
    decoder = frames.Decoder()
    body = json.dumps({"id": 7}).encode()
    with near, far:
        assert decoder.read(far) is None
        near.sendall(struct.pack("!I", len(body)) + body[:3])
        assert decoder.read(far) is None
        near.sendall(body[3:])
        assert decoder.read(far) == ({"id": 7}, [])
        frames.send(near, {"id": 1}, (near.fileno(),))
        frames.send(near, {"id": 2})
        arrived = [decoder.read(far), decoder.read(far)]
    assert [(frame[0]["id"], len(frame[1])) for frame in arrived if frame] == [(1, 1), (2, 0)]
    assert arrived[0] is not None
    os.close(arrived[0][1][0])


def raw(body: bytes) -> bytes:
    return struct.pack("!I", len(body)) + body


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (struct.pack("!I", frames.MOST_BYTES + 1), "a frame of 67108865 bytes, more than 67108864"),
        (raw(b"{"), "a frame that is no JSON"),
        (raw(b"\xff\xfe"), "a frame that is no JSON"),
        (raw(b"[" * 200_000), "a frame that is no JSON"),
        (raw(b"[1]"), "a frame that is no object but list"),
        (raw(b'{"fds":1}'), "a frame of 1 descriptors with 0"),
        (raw(b'{"fds":true}'), "a frame of True descriptors with 0"),
        (raw(b'{"fds":"1"}'), "a frame of '1' descriptors with 0"),
    ],
)
def test_frame_that_is_none_is_malformed(
    pair: tuple[socket.socket, socket.socket], data: bytes, message: str
) -> None:
    near, far = pair
    with near, far:
        writing = threading.Thread(target=near.sendall, args=(data,))
        writing.start()
        with pytest.raises(frames.Malformed, match=message):
            frames.receive(far)
        writing.join()


def test_descriptors_of_a_malformed_frame_are_closed(
    pair: tuple[socket.socket, socket.socket], tmp_path: Path
) -> None:
    near, far = pair
    with near, far, (tmp_path / "pipe").open("w") as file:
        for count in (2, frames.MOST_FDS + 1):
            rights = (
                socket.SOL_SOCKET,
                socket.SCM_RIGHTS,
                array.array("i", [file.fileno()] * count),
            )
            before = descriptors()
            near.sendmsg([raw(b'{"fds":1}')], [rights])
            with pytest.raises(frames.Malformed, match="descriptors"):
                frames.receive(far)
            assert descriptors() <= before
            far.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                far.recv(1 << 16)
            far.setblocking(True)


def test_frame_that_is_too_large_is_not_sent(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    near, far = pair
    far.setblocking(False)
    with near, far:
        with pytest.raises(ValueError, match="more than the 67108864 that a frame takes"):
            frames.send(near, {"text": "x" * frames.MOST_BYTES})
        with pytest.raises(ValueError, match="17 descriptors, more than the 16"):
            frames.send(near, {"id": 1}, [near.fileno()] * 17)
        with pytest.raises(BlockingIOError):
            far.recv(1)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)
messages = st.dictionaries(st.text(max_size=5).filter(lambda key: key != "fds"), json_values)


@settings(deadline=None)
@given(sent=st.lists(messages, max_size=4), cuts=st.lists(st.integers(1, 30), max_size=60))
def test_frames_cut_anywhere_arrive_as_they_were_sent(
    sent: list[frames.Message], cuts: list[int]
) -> None:
    near, far = socket.socketpair()
    far.setblocking(False)
    decoder, arrived = frames.Decoder(), []
    data = b"".join(map(frames.pack, sent))
    with near, far:
        for size in [*cuts, len(data)]:
            near.sendall(data[:size])
            data = data[size:]
            while (frame := decoder.read(far)) is not None:
                arrived.append(frame)
    assert arrived == [(message, []) for message in sent]


@settings(deadline=None)
@given(data=st.binary(max_size=200))
def test_arbitrary_bytes_are_frames_or_refused_and_nothing_else(data: bytes) -> None:
    near, far = socket.socketpair()
    with far:
        with near:
            near.sendall(data)
        decoder = frames.Decoder()
        ends = False
        while not ends:
            try:
                frame = decoder.read(far)
            except frames.Closed:
                ends = True
            else:
                assert frame is not None
                assert isinstance(frame[0], dict)


def test_outbox_sends_whole_what_has_begun_and_gives_back_the_rest(tmp_path: Path) -> None:
    near, far = socket.socketpair()
    near.setblocking(False)
    with near, far, (tmp_path / "file").open("w") as file:
        before = descriptors()
        outbox = frames.Outbox(near)
        large = outbox.post(frames.pack({"text": "x" * 5_000_000}), ())
        second = outbox.post(frames.pack({"id": 2}, (file.fileno(),)), (file.fileno(),))
        third = outbox.post(frames.pack({"id": 3}, (file.fileno(),)), (file.fileno(),))
        assert descriptors() == before + 2
        assert not outbox.withdraw(large)
        assert outbox.withdraw(second)
        assert not outbox.withdraw(second)
        assert descriptors() == before + 1

        def drain() -> None:
            while outbox:
                outbox.flush()

        writing = threading.Thread(target=drain)
        writing.start()
        assert frames.receive(far)[0] == {"text": "x" * 5_000_000}
        message, fds = frames.receive(far)
        writing.join()
        assert message == {"id": 3, "fds": 1}
        os.close(fds[0])
        assert not outbox.withdraw(third)
        assert descriptors() <= before


def test_socket_path_longer_than_the_kernel_takes_works(tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 30) / ("longer" * 20)
    folder.mkdir(parents=True)
    path = str(folder / "socket")
    assert len(path) > 108
    with frames.listen(path) as listener, frames.connect(path) as client:
        near, _ = listener.accept()
        with near:
            frames.send(client, {"id": 3})
            assert frames.receive(near)[0] == {"id": 3}
    assert (folder / "socket").stat().st_mode & 0o777 == 0o600
