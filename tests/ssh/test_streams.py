"""Pipes in an event loop."""

from __future__ import annotations

import asyncio
import os

import pytest

from pytest_carthage.ssh.streams import Sink, Source

pytestmark = pytest.mark.asyncio

#: more than a pipe holds, and than may wait
MUCH = os.urandom(1 << 20)


async def read_all(fd: int) -> bytes:
    """All that comes through a pipe."""

    def read() -> bytes:
        with os.fdopen(fd, "rb") as file:
            return file.read()

    return await asyncio.to_thread(read)


async def test_sink_tells_when_too_much_waits_and_writes_all_of_it() -> None:
    reading, writing = os.pipe()
    told: list[bool] = []
    sink = Sink(writing, told.append)
    sink.write(MUCH)
    assert told == [True]
    sink.end()
    assert await read_all(reading) == MUCH
    assert told == [True, False]


async def test_sink_writes_what_comes_with_the_end_as_soon_as_there_is_room() -> None:
    reading, writing = os.pipe()

    def crowded(is_crowded: bool) -> None:
        if not is_crowded:
            sink.write(MUCH)
            sink.end()

    sink = Sink(writing, crowded)
    sink.write(MUCH)
    assert await read_all(reading) == MUCH * 2


async def test_sink_drops_what_nobody_reads() -> None:
    reading, writing = os.pipe()
    relieved = asyncio.Event()
    sink = Sink(writing, lambda is_crowded: None if is_crowded else relieved.set())
    sink.write(MUCH)
    os.close(reading)
    await relieved.wait()
    sink.write(b"more")
    sink.end()


async def test_source_that_is_paused_reads_on_when_it_is_resumed() -> None:
    reading, writing = os.pipe()
    taken: list[bytes] = []
    ended = asyncio.Event()
    source = Source(reading, taken.append, ended.set)
    source.pause()
    os.write(writing, b"later")
    os.close(writing)
    await asyncio.sleep(0)
    assert not taken
    source.resume()
    await ended.wait()
    assert taken == [b"later"]


async def test_source_that_is_drained_takes_what_is_there_and_not_more() -> None:
    reading, writing = os.pipe()
    taken: list[bytes] = []
    source = Source(reading, taken.append, lambda: None)
    os.write(writing, b"there")
    source.drain()
    assert taken == [b"there"]
    source.close()
    os.close(writing)
