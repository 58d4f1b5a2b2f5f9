"""Recordings of real networks; what becomes of them in a session is in tests/plugin."""

from __future__ import annotations

import asyncio
import io
import socket
import time
from pathlib import Path

import pytest

from pytest_carthage import Layout, Machine, Network
from pytest_carthage.errors import LayoutError
from pytest_carthage.live.environment import AsyncLayout
from pytest_carthage.live.packets import pcapng
from pytest_carthage.live.packets.packets import dissect
from pytest_carthage.live.packets.recording import Recording
from pytest_carthage.live.packets.taps import open_socket
from pytest_carthage.portal import Portal
from tests.live.conftest import Build, end

pytestmark = pytest.mark.real

MIB = 1 << 20


class Pair(Layout):
    lan = Network("10.0.0.0/24")
    one = Machine(links={"eth0": lan.at(".1")})
    two = Machine(links={"eth0": lan.at(".2")})


@pytest.fixture
def pair(build: Build) -> Layout:
    return build(Pair)


async def door_of(environment: AsyncLayout) -> socket.socket:
    """A socket of one's that has met the other."""
    sock = await open_socket(environment.fabric, "one", socket.AF_INET, socket.SOCK_DGRAM)
    await environment["one"].ping("10.0.0.2")
    return sock


def said(path: Path) -> list[bytes]:
    frames = pcapng.read(io.BytesIO(path.read_bytes())).frames
    packets = [dissect(frame.data) for frame in frames]
    return [packet.payload for packet in packets if packet.protocol == "udp"]


def test_slice_has_what_was_sent_between_two_times(
    pair: Layout, portal: Portal, tmp_path: Path
) -> None:
    async def go() -> float:
        recording = await Recording.begin(pair.aio, pair.aio, ["lan"], most_bytes=MIB)
        with await door_of(pair.aio) as door:
            times = []
            for text in (b"before", b"within", b"after"):
                times.append(time.time())
                door.sendto(text, ("10.0.0.2", 9))
                time.sleep(0.001)  # noqa: ASYNC251 - all in one block of the ring
        await recording.write(tmp_path / "all")
        await recording.write(tmp_path / "some", since_s=times[1], until_s=times[2])
        recording.close()
        return times[0]

    portal.call(go)
    assert said(tmp_path / "all") == [b"before", b"within", b"after"]
    assert said(tmp_path / "some") == [b"within"]


def test_times_are_those_of_the_host(pair: Layout, portal: Portal, tmp_path: Path) -> None:
    async def go() -> tuple[float, float]:
        recording = await Recording.begin(pair.aio, pair.aio, ["lan"], most_bytes=MIB)
        with await door_of(pair.aio) as door:
            begin = time.time()
            door.sendto(b"now", ("10.0.0.2", 9))
            end = time.time()
        await recording.write(tmp_path / "it", since_s=begin)
        recording.close()
        return begin, end

    begin, end = portal.call(go)
    frames = pcapng.read(io.BytesIO((tmp_path / "it").read_bytes())).frames
    assert begin <= frames[0].time_ns / 1e9 <= end + 0.001


def test_large_packets_and_many_of_them_are_whole(
    pair: Layout, portal: Portal, tmp_path: Path
) -> None:
    async def go() -> str:
        recording = await Recording.begin(pair.aio, pair.aio, ["lan"], most_bytes=32 * MIB)
        with await door_of(pair.aio) as door:
            for number in range(5000):
                door.sendto(b"%06d" % number * 200, ("10.0.0.2", 9))
                if number % 100 == 0:
                    await asyncio.sleep(0)
        (found,) = await recording.write(tmp_path / "it")
        recording.close()
        return found.lost

    assert portal.call(go) == ""
    assert said(tmp_path / "it") == [b"%06d" % number * 200 for number in range(5000)]


def test_what_was_not_taken_in_time_is_told(pair: Layout, portal: Portal, tmp_path: Path) -> None:
    async def go() -> str:
        recording = await Recording.begin(pair.aio, pair.aio, ["lan"], most_bytes=32 * MIB)
        with await door_of(pair.aio) as door:
            for _ in range(6000):  # more than the kernel's part holds, and nobody takes it
                door.sendto(bytes(1400), ("10.0.0.2", 9))
        (found,) = await recording.write(tmp_path / "it")
        recording.close()
        return found.lost

    assert "packets came faster than they could be taken" in portal.call(go)


def test_recording_of_no_network_tells_which_there_are(pair: Layout, portal: Portal) -> None:
    async def go() -> None:
        await Recording.begin(pair.aio, pair.aio, ["wan"], most_bytes=MIB)

    with pytest.raises(LayoutError, match=r"'Pair' has no network 'wan' .*there are: lan"):
        portal.call(go)


def test_end_of_the_environment_ends_its_recording(
    pair: Layout, portal: Portal, tmp_path: Path
) -> None:
    async def go() -> Recording:
        pair.aio.recording = await Recording.begin(pair.aio, pair.aio, ["lan"], most_bytes=MIB)
        return pair.aio.recording

    recording = portal.call(go)
    assert Path("/proc/self/maps").read_text().count("socket:[") == 1
    end(pair)
    assert "socket:[" not in Path("/proc/self/maps").read_text()
    recording.close()  # once more is no error
