"""The kernel bounds how many descriptors of a user are sent and not received yet.

Root of every machine is the same user to it, so that one machine can use up what all have: whoever
is refused for that is told so, and keeps the connection.
"""

from __future__ import annotations

import array
import asyncio
import os
import pickle
import resource
import socket
import threading
from collections.abc import Callable
from typing import Any

import pytest

from pytest_carthage.errors import FabricError
from pytest_carthage.fabric.wire import frames
from pytest_carthage.fabric.wire.channel import AsyncChannel
from pytest_carthage.fabric.wire.client import Client
from pytest_carthage.fabric.wire.control import Control
from pytest_carthage.fabric.wire.server import Connection, Reply, Server

#: of users who are nobody else's, from here on
_FIRST_UID = 2_000_000_000
_MOST = 64
_WORDS = rf"passes no more descriptors on: more than {_MOST} \(ulimit -n\) of this user"


def as_user_with_many_on_their_way(body: Callable[[Callable[[], None]], Any]) -> Any:
    """What ``body`` returns, in a process of an ordinary user, once it has called its argument.

    From then on the kernel takes no more descriptors of that user.
    """
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        # a worker of the tests may have more open than this user may
        os.closerange(3, writing)
        os.closerange(writing + 1, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
        try:
            if os.getuid() == 0:
                uid = _FIRST_UID + os.getpid()
                os.setresuid(uid, uid, uid)
            _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (_MOST, hard))
            near, far = socket.socketpair()

            def crowd() -> None:
                for _ in range(_MOST // 8 + 1):
                    rights = array.array("i", [near.fileno()] * 8)
                    near.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])

            with near, far:
                result = body(crowd)
        except BaseException as error:
            result = f"{type(error).__name__}: {error}"
        os.write(writing, pickle.dumps(result))
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        result = pickle.load(pipe)
    os.waitpid(pid, 0)
    assert not isinstance(result, str), result
    return result


def _a_file(connection: Connection, message: frames.Message, fds: list[int]) -> Reply:
    return Reply((os.open("/dev/null", os.O_RDONLY),))


def test_server_refuses_what_has_a_descriptor_and_answers_the_rest() -> None:
    def body(crowd: Callable[[], None]) -> list[Any]:
        ours, theirs = socket.socketpair()
        server = Server()
        server.handlers = {"file": _a_file, "ping": lambda c, m, f: Reply()}
        server.adopt(theirs)
        threading.Thread(target=server.run, daemon=True).start()
        replies = []
        for number, op in enumerate(("file", "crowd", "file", "ping")):
            if op == "crowd":
                crowd()
                continue
            frames.send(ours, {"id": number, "op": op})
            reply, fds = frames.receive(ours)
            frames.close_all(fds)
            replies.append(reply)
        return replies

    before, refused, ping = as_user_with_many_on_their_way(body)
    assert before["ok"]
    assert (refused["ok"], refused["errno"]) == (False, 109)
    assert ping == {"id": 3, "ok": True}
    with pytest.raises(RuntimeError, match=_WORDS):
        raise RuntimeError(refused["error"])


def test_channel_refuses_the_request_and_goes_on() -> None:
    def body(crowd: Callable[[], None]) -> list[str]:
        async def go() -> list[str]:
            ours, theirs = socket.socketpair()
            server = Server()
            server.handlers = {"take": lambda c, m, f: Reply(), "ping": lambda c, m, f: Reply()}
            server.adopt(theirs)
            threading.Thread(target=server.run, daemon=True).start()
            channel = AsyncChannel(ours, "machine 'web'")
            said = []
            await channel.request("take", fds=[0, 1, 2])
            crowd()
            try:
                await channel.request("take", fds=[0, 1, 2])
            except FabricError as error:
                said.append(f"{error.errno} {error}")
            await channel.request("ping")
            said.append("went on")
            channel.close()
            return said

        return asyncio.run(go())

    refused, rest = as_user_with_many_on_their_way(body)
    assert rest == "went on"
    with pytest.raises(
        RuntimeError, match="109 machine 'web': 'take' cannot be asked: .*" + _WORDS
    ):
        raise RuntimeError(refused)


def test_client_refuses_the_request_and_goes_on() -> None:
    def body(crowd: Callable[[], None]) -> list[str]:
        ours, theirs = socket.socketpair()
        client = Client(ours)
        crowd()
        said = []
        try:
            client.send("take", fds=[0])
        except frames.Crowded as error:
            said.append(str(error.strerror))
        client.send("ping")
        said.append(frames.receive(theirs)[0]["op"])
        return said

    refused, rest = as_user_with_many_on_their_way(body)
    assert rest == "ping"
    with pytest.raises(RuntimeError, match=_WORDS):
        raise RuntimeError(refused)


def test_agent_that_cannot_be_handed_a_client_now_takes_the_next_one() -> None:
    def body(crowd: Callable[[], None]) -> list[str]:
        near, far = Control.pair()
        crowd()
        said = []
        try:
            near.send({"id": 1}, (0,))
        except frames.Crowded as error:
            said.append(str(error.strerror))
        near.send({"id": 2})
        said.append(str(far.receive()))
        return said

    refused, taken = as_user_with_many_on_their_way(body)
    assert taken == "({'id': 2}, [])"
    with pytest.raises(RuntimeError, match=_WORDS):
        raise RuntimeError(refused)
