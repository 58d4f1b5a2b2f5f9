"""A client on an event loop: what is cancelled, what comes late, and answers that are none."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_carthage.errors import FabricError
from pytest_carthage.fabric.wire import frames
from pytest_carthage.fabric.wire.channel import AsyncChannel
from tests.fabric.peer import Peer, descriptors
from tests.fabric.test_wire import json_values

WHO = "machine 'web' of layout 'Shop'"
LARGE = "x" * 2_000_000


def talk(conversation: Callable[[AsyncChannel, Peer], Awaitable[None]]) -> None:
    """Have a conversation; no descriptor is left open, and no callback raises."""
    troubles: list[dict[str, Any]] = []

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, each: troubles.append(each))
        near, far = socket.socketpair()
        channel = AsyncChannel(near, WHO)
        try:
            async with asyncio.timeout(20):
                await conversation(channel, Peer(far))
        finally:
            channel.close()
            far.close()

    before = descriptors(collects=False)
    asyncio.run(main())
    assert descriptors(collects=False) <= before or descriptors() <= before
    assert troubles == []


@pytest.fixture
def file(tmp_path: Path) -> Iterator[int]:
    """A descriptor."""
    with (tmp_path / "file").open("w") as opened:
        yield opened.fileno()


async def begun(coroutine: Any, turns: int = 1) -> asyncio.Task[Any]:
    """A task that has had some turns of the loop."""
    task = asyncio.create_task(coroutine)
    for _ in range(turns):
        await asyncio.sleep(0)
    return task


async def cancelled(task: asyncio.Task[Any]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


# an end that is gone


def test_request_that_nobody_can_have_got_says_so(file: int) -> None:
    async def conversation(channel: AsyncChannel, peer: Peer) -> None:
        peer.sock.close()
        for _ in range(2):  # when that is noticed by sending, and when it is known
            with pytest.raises(FabricError, match="'Shop': it is gone") as caught:
                await channel.request("run", fds=(file,))
            assert caught.value.is_unsent

    talk(conversation)


def test_last_request_that_was_never_read_says_so(file: int) -> None:
    async def conversation(channel: AsyncChannel, peer: Peer) -> None:
        first = await begun(channel.request("run", fds=(file,)))
        frames.close_all((await peer.frame())[1])
        last = await begun(channel.request("run", fds=(file,)))
        peer.sock.close()
        for asking, is_unsent in ((first, False), (last, True)):
            with pytest.raises(FabricError, match="'Shop': it is gone") as caught:
                await asking
            assert caught.value.is_unsent is is_unsent

    talk(conversation)


def test_request_that_the_other_end_may_have_got_does_not_say_so(file: int) -> None:
    async def conversation(channel: AsyncChannel, peer: Peer) -> None:
        asking = await begun(channel.request("run", fds=(file,)))
        frames.close_all((await peer.frame())[1])
        peer.sock.close()
        with pytest.raises(FabricError, match="'Shop': it is gone") as caught:
            await asking
        assert not caught.value.is_unsent

    talk(conversation)


# cancellation


def test_request_cancelled_in_the_middle_of_its_frame_leaves_the_next_one_whole() -> None:
    async def conversation(channel: AsyncChannel, peer: Peer) -> None:
        await cancelled(await begun(channel.request("open", path=LARGE)))
        later = await begun(channel.request("ping"))
        assert (await peer.receive())["path"] == LARGE
        assert await peer.receive() == {"id": 2, "op": "cancel", "request": 1}
        assert await peer.receive() == {"id": 3, "op": "ping"}
        peer.send({"id": 3, "ok": True})
        assert (await later)[0]["ok"]

    talk(conversation)


def test_request_cancelled_before_its_frame_begins_is_never_sent(file: int) -> None:
    async def conversation(channel: AsyncChannel, peer: Peer) -> None:
        large = await begun(channel.request("open", path=LARGE))
        await cancelled(await begun(channel.request("run", fds=(file, file, file))))
        later = await begun(channel.request("ping"))
        assert (await peer.receive())["op"] == "open"
        assert (await peer.receive())["op"] == "ping"
        assert await peer.is_silent()
        await cancelled(large)
        await cancelled(later)

    talk(conversation)


def test_request_that_waits_for_room_keeps_its_descriptors_when_the_caller_closes_them(
    tmp_path: Path,
) -> None:
    async def conversation(channel: AsyncChannel, peer: Peer) -> None:
        large = await begun(channel.request("open", path=LARGE))
        fd = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
        second = await begun(channel.request("run", fds=(fd,)))
        os.close(fd)
        with (tmp_path / "other").open("w"):  # gets the number that is free now
            assert (await peer.receive())["op"] == "open"
            _, (arrived,) = await peer.frame()
            assert os.path.samestat(os.fstat(arrived), (tmp_path / "file").stat())
            os.close(arrived)
        await cancelled(large)
        await cancelled(second)

    talk(conversation)


def test_request_cancelled_while_it_waits_tells_the_other_end() -> None:
    async def conversation(channel: AsyncChannel, peer: Peer) -> None:
        asking = await begun(channel.request("run", argv=["sleep", "9"]))
        assert (await peer.receive())["op"] == "run"
        await cancelled(asking)
        assert await peer.receive() == {"id": 2, "op": "cancel", "request": 1}

    talk(conversation)


def test_answer_that_comes_late_is_dropped_with_its_descriptors(file: int) -> None:
    async def conversation(channel: AsyncChannel, peer: Peer) -> None:
        await cancelled(await begun(channel.request("open", path="/x")))
        before = descriptors()
        peer.send({"id": 1, "ok": True}, file)
        later = await begun(channel.request("ping"))
        peer.send({"id": 3, "ok": True})
        assert (await later)[0]["id"] == 3
        assert descriptors() <= before

    talk(conversation)


def test_answer_that_comes_in_the_turn_of_the_cancellation_is_not_lost(file: int) -> None:
    async def conversation(channel: AsyncChannel, peer: Peer) -> None:
        asking = await begun(channel.request("open", path="/x"))
        before = descriptors()
        peer.send({"id": 1, "ok": True}, file)
        channel._readable()  # as the loop does, just before it cancels the task
        assert descriptors() == before + 1
        await cancelled(asking)
        assert asking.cancelled()
        assert descriptors() <= before
        assert (await peer.receive())["op"] == "open"
        assert (await peer.receive())["request"] == 1  # what it began is to end all the same

    talk(conversation)


@pytest.mark.parametrize("turns", range(8))
def test_request_cancelled_at_any_turn_disturbs_no_other(turns: int, file: int) -> None:
    """Three at once, one of them too large for the socket: cancelled at any turn of the loop."""

    async def conversation(channel: AsyncChannel, peer: Peer) -> None:
        async def serve() -> None:
            while True:
                message = await peer.receive()
                if message["op"] == "ping":
                    peer.send({"id": message["id"], "ok": True})

        serving = asyncio.create_task(serve())
        kept = asyncio.create_task(channel.request("ping"))
        victims = [
            asyncio.create_task(channel.request("open", path=LARGE)),
            asyncio.create_task(channel.request("run", fds=(file,) * 3)),
        ]
        for _ in range(turns):
            await asyncio.sleep(0)
        for victim in victims:
            await cancelled(victim)
        assert (await channel.request("ping"))[0]["ok"]
        assert (await kept)[0]["ok"]
        await cancelled(serving)

    talk(conversation)


def test_close_fails_requests_under_way_and_says_why() -> None:
    async def conversation(channel: AsyncChannel, peer: Peer) -> None:
        asking = [await begun(channel.request("ping")), await begun(channel.request("open"))]
        channel.close("the end")
        for task in asking:
            with pytest.raises(FabricError, match=f"^{WHO}: the end$"):
                await task
        with pytest.raises(FabricError, match="the end"):
            await channel.request("ping")

    talk(conversation)


def test_other_end_that_goes_away_fails_requests_under_way() -> None:
    async def conversation(channel: AsyncChannel, peer: Peer) -> None:
        large = await begun(channel.request("open", path=LARGE))
        asking = await begun(channel.request("ping"))
        peer.sock.close()
        for task in (large, asking):
            with pytest.raises(FabricError, match="'Shop': it is gone"):
                await task
        assert channel.closed

    talk(conversation)


def test_request_that_fits_into_no_frame_is_refused_and_the_next_one_is_sent() -> None:
    async def conversation(channel: AsyncChannel, peer: Peer) -> None:
        with pytest.raises(FabricError, match="'open' cannot be asked: 67108"):
            await channel.request("open", path="x" * frames.MOST_BYTES)
        asking = await begun(channel.request("ping"))
        assert (await peer.receive())["op"] == "ping"
        await cancelled(asking)

    talk(conversation)


# what is no answer


@pytest.mark.parametrize(
    ("op", "answer", "message"),
    [
        ("stat", {"ok": True}, "a reply to 'stat' whose mode is missing"),
        ("stat", {"ok": True, "mode": True}, "a reply to 'stat' whose mode is True"),
        ("run", {"ok": True, "job": "1", "pid": 1}, "a reply to 'run' whose job is '1'"),
        ("wait", {"ok": True, "status": None}, "a reply to 'wait' whose status is None"),
        ("ping", {"ok": 1}, "a reply to 'ping' that is neither granted nor refused"),
        ("ping", {}, "a reply to 'ping' that is neither granted nor refused"),
        ("ping", {"ok": False}, "a reply to 'ping' whose error is missing"),
        ("ping", {"ok": False, "error": 5, "errno": None}, "whose error is 5"),
        ("ping", {"ok": False, "error": "no", "errno": "2"}, "whose errno is '2'"),
        ("open", {"ok": True}, "a reply to 'open' with 0 descriptors instead of 1"),
        ("listdir", {"ok": True, "names": ["a", "../b"]}, r"whose names\[\] is '../b'"),
        ("listdir", {"ok": True, "names": ["a", 5]}, r"whose names\[\] is 5"),
        ("listdir", {"ok": True, "names": "ab"}, "whose names is no list"),
        ("listening", {"ok": True, "listening": [5]}, r"whose listening\[\] is no object"),
        (
            "listening",
            {"ok": True, "listening": [{"protocol": "tcp", "address": "::"}]},
            r"whose listening\[\].port is missing",
        ),
    ],
)
def test_answer_that_is_none_names_the_machine_and_ends_the_channel(
    op: str, answer: dict[str, Any], message: str
) -> None:
    async def conversation(channel: AsyncChannel, peer: Peer) -> None:
        asking, other = await begun(channel.request(op)), await begun(channel.request("ping"))
        peer.send({"id": 1, **answer})
        for task in (asking, other):
            with pytest.raises(FabricError, match=f"^{WHO}: it sent .*{message}"):
                await task
        assert channel.closed

    talk(conversation)


@pytest.mark.parametrize("number", [0, 2, -1, None, "1", True, 1.0, [1], {"a": 1}])
def test_answer_to_nothing_that_was_asked_ends_the_channel(number: object) -> None:
    async def conversation(channel: AsyncChannel, peer: Peer) -> None:
        asking = await begun(channel.request("ping"))
        peer.send({"id": number, "ok": True})
        with pytest.raises(FabricError, match=f"^{WHO}: it sent a reply to .*which nobody asked"):
            await asking

    talk(conversation)


def test_answer_with_descriptors_that_nobody_wants_ends_the_channel(file: int) -> None:
    async def conversation(channel: AsyncChannel, peer: Peer) -> None:
        asking = await begun(channel.request("ping"))
        peer.send({"id": 1, "ok": True}, file, file)
        with pytest.raises(FabricError, match="with 2 descriptors instead of 0"):
            await asking

    talk(conversation)


def test_refusal_keeps_its_words_and_number() -> None:
    async def conversation(channel: AsyncChannel, peer: Peer) -> None:
        asking = await begun(channel.request("open", path="/x"))
        peer.send({"id": 1, "ok": False, "error": "no such file", "errno": 2})
        with pytest.raises(FabricError, match=f"^{WHO}: no such file$") as caught:
            await asking
        assert caught.value.errno == 2

    talk(conversation)


OPERATIONS = ("run", "wait", "stat", "listdir", "lookup", "listening", "observe", "open", "ping")
FIELDS = (
    *("job", "pid", "status", "mode", "uid", "gid", "size", "mtime", "names", "address"),
    *("listening", "processes", "addresses", "routes", "hostname", "error", "errno", "ok"),
)
answers = st.dictionaries(st.sampled_from(FIELDS), json_values) | json_values


@settings(max_examples=60, deadline=None)
@given(op=st.sampled_from(OPERATIONS), answer=answers, granted=st.booleans())
def test_arbitrary_answer_is_given_or_ends_the_channel(op: str, answer: Any, granted: bool) -> None:
    async def conversation(channel: AsyncChannel, peer: Peer) -> None:
        asking = await begun(channel.request(op))
        if isinstance(answer, dict):
            peer.send({"ok": granted, **answer, "id": 1})
        else:
            peer.send(answer)
        await asyncio.wait([asking])
        error = asking.exception()
        if error is None:
            reply, fds = asking.result()
            assert reply["ok"] is True
            assert fds == []
        else:
            assert str(error).startswith(WHO)
            assert channel.closed or not {"ok": granted, **answer}["ok"]

    talk(conversation)


@settings(max_examples=60, deadline=None)
@given(data=st.binary(min_size=1, max_size=100), closes=st.booleans())
def test_arbitrary_bytes_never_reach_who_asked(data: bytes, closes: bool) -> None:
    async def conversation(channel: AsyncChannel, peer: Peer) -> None:
        asking = await begun(channel.request("ping"))
        peer.sock.sendall(data)
        if closes:
            peer.sock.close()
        else:
            await asyncio.sleep(0.002)
            channel.close("given up")
        with pytest.raises(FabricError, match=f"^{WHO}: "):
            await asking

    talk(conversation)


def test_silent_end_does_not_keep_a_time_limit_from_passing() -> None:
    async def conversation(channel: AsyncChannel, peer: Peer) -> None:
        begin = time.monotonic()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await channel.request("ping")
        assert time.monotonic() - begin < 2

    talk(conversation)
