"""What an agent far away answers beyond what any deputy does."""

from __future__ import annotations

import errno
import fcntl
import os
import select
import socket
import struct
import termios
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from pytest_carthage.errors import FabricError
from pytest_carthage.fabric.wire.channel import AsyncChannel
from tests.channels.alone import ME
from tests.channels.conftest import Bench, settled


@pytest.fixture
def far(endpoints: Callable[[str], Bench]) -> Iterator[Bench]:
    """No test leaves anything in it."""
    made = endpoints("far")
    yield made
    made.check_rest()


def _read_until(fd: int, wanted: bytes, within_s: float = 10.0) -> bytes:
    data = b""
    deadline = time.monotonic() + within_s
    while wanted not in data and time.monotonic() < deadline:
        if select.select([fd], [], [], 0.1)[0]:
            try:
                data += os.read(fd, 4096)
            except OSError:
                break
    return data


def test_greeting_tells_the_way(far: Bench) -> None:
    async def go() -> str | None:
        opened = await far.channel()
        opened.close()
        return opened.way

    assert far.portal.call(go) == "agent"


def test_terminal_acts_in_the_machine_and_follows_its_size(far: Bench) -> None:
    reply, (master,) = far.ask(
        "run", argv=["sh", "-c", "stty size; cat"], tty=True, rows=30, cols=90, user=ME, env={}
    )
    try:
        assert b"30 90\r\n" in _read_until(master, b"30 90\r\n")
        os.write(master, b"hello\n")
        assert b"hello\r\nhello\r\n" in _read_until(master, b"hello\r\nhello\r\n")
        os.write(master, b"\x03")
        assert far.ask("wait", job=reply["job"])[0]["status"] == -2
    finally:
        os.close(master)
    script = "trap 'stty size' WINCH; echo on; while sleep 0.1; do :; done"
    reply, (master,) = far.ask("run", argv=["sh", "-c", script], tty=True, user=ME, env={})
    try:
        _read_until(master, b"on\r\n")
        fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", 44, 111, 0, 0))
        assert b"44 111" in _read_until(master, b"44 111")
    finally:
        os.close(master)
    # whose terminal is gone is hung up
    assert far.ask("wait", job=reply["job"])[0]["status"] == -1


def test_machine_is_looked_into(far: Bench) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        seen, _ = far.ask("observe")
        port = listener.getsockname()[1]
        row = {"protocol": "tcp", "address": "127.0.0.1", "port": port}
        assert row in seen["listening"]
        assert row in far.ask("listening")[0]["listening"]
    assert seen["hostname"] == socket.gethostname()
    own = next(row for row in seen["processes"] if row["pid"] == os.getpid())
    assert (own["user"], own["ppid"]) == (ME, os.getppid())
    assert {"interface": "lo", "address": "127.0.0.1/8"} in [
        {name: row[name] for name in ("interface", "address")} for row in seen["addresses"]
    ]


def test_datagrams_keep_their_bounds(far: Bench) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as service:
        service.bind(("127.0.0.1", 0))
        port = service.getsockname()[1]
        _, (fd,) = far.ask("datagrams", host="127.0.0.1", port=port)
        with socket.socket(fileno=fd) as near:
            near.settimeout(10)
            service.settimeout(10)
            near.send(b"one")
            near.send(b"two" * 1000)
            data, peer = service.recvfrom(9000)
            assert data == b"one"
            assert service.recv(9000) == b"two" * 1000
            service.sendto(b"back", peer)
            service.sendto(b"again", peer)
            assert near.recv(9000) == b"back"
            assert near.recv(9000) == b"again"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_echo_comes_back(far: Bench, host: str) -> None:
    reply, _ = far.ask("echo", host=host, timeout_s=5)
    assert 0 < reply["seconds"] < 1
    assert reply["address"] in ("127.0.0.1", "::1")


def test_echo_that_cannot_be_sent_is_refused_with_its_number(far: Bench) -> None:
    with pytest.raises(FabricError) as caught:
        far.ask("echo", host="255.255.255.255", timeout_s=5)
    assert caught.value.errno == errno.EACCES


def test_unix_socket_of_the_machine_is_reached(far: Bench, tmp_path: object) -> None:
    path = f"{tmp_path}/socket"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        _, (fd,) = far.ask("connect", host=path, protocol="unix")
        with socket.socket(fileno=fd) as near, listener.accept()[0] as there:
            near.sendall(b"hi")
            assert there.recv(2) == b"hi"
            there.shutdown(socket.SHUT_WR)
            near.settimeout(10)
            assert near.recv(1) == b""


def test_stream_that_nobody_reads_holds_up_no_other(far: Bench) -> None:
    reading, writing = os.pipe()
    null = os.open(os.devnull, os.O_RDWR)
    try:
        far.ask(
            "run",
            argv=["sh", "-c", "yes"],
            user=ME,
            env={},
            fds=(null, writing, null),
        )
        os.close(writing)
        for _ in range(3):
            assert far.run("echo", "on")[1] == b"on\n"
        assert os.read(reading, 2) == b"y\n"
    finally:
        os.close(null)
        os.close(reading)

    # nobody reads any more: the command ends by SIGPIPE
    def running() -> list[object]:
        return [row for row in far.ask("observe")[0]["processes"] if row["args"] == "yes"]

    nobody: list[object] = []
    assert settled(running, nobody) == nobody


def test_large_output_and_input_pass_whole(far: Bench) -> None:
    data = os.urandom(8 << 20)
    assert far.run("cat", input=data)[1] == data


def test_connection_that_is_cancelled_leaves_nothing(far: Bench) -> None:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        port = deaf.getsockname()[1]
        fillers = []
        for _ in range(3):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
            fillers.append(filler)

        async def go(opened: AsyncChannel) -> None:
            import asyncio

            asked = asyncio.ensure_future(
                opened.request("connect", host="127.0.0.1", port=port, timeout_s=15)
            )
            await asyncio.sleep(0.1)
            asked.cancel()
            await asyncio.sleep(0.1)

        far.talk(go)
        for filler in fillers:
            filler.close()


def test_many_connections_are_carried_at_once(far: Bench) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            for _ in range(20):
                there, _ = listener.accept()
                with there:
                    there.sendall(there.recv(100).upper())

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        port = listener.getsockname()[1]
        nears = []
        for number in range(20):
            _, (fd,) = far.ask("connect", host="localhost", port=port)
            near = socket.socket(fileno=fd)
            near.settimeout(10)
            near.sendall(b"n%d" % number)
            nears.append(near)
        for number, near in enumerate(nears):
            assert near.recv(100) == b"N%d" % number
            near.close()
        thread.join(10)


def test_port_of_the_machine_leads_to_a_socket_here(far: Bench, tmp_path: object) -> None:
    path = f"{tmp_path}/gate.sock"
    with socket.socket(socket.AF_UNIX) as takes:
        takes.bind(path)
        takes.listen()
        takes.settimeout(10)
        reply, _ = far.ask("listen", to=path, port=0, address="127.86.0.9")
        assert reply["address"] == "127.86.0.9"
        with pytest.raises(FabricError, match="Address already in use"):
            far.ask("listen", to=path, port=reply["port"], address="127.86.0.9")
        for word in (b"one", b"two"):
            with socket.create_connection(("127.86.0.9", reply["port"]), 10) as there:
                there.sendall(word)
                with takes.accept()[0] as here:
                    assert here.recv(9) == word
                    here.sendall(word.upper())
                assert there.recv(9) == word.upper()
                assert there.recv(1) == b""
    # nobody takes it here: it is hung up there
    with socket.create_connection(("127.86.0.9", reply["port"]), 10) as there:
        assert there.recv(1) == b""
    far.ask("unlisten", listener=reply["listener"])
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.86.0.9", reply["port"]), 10)


def test_port_of_the_machine_closes_with_who_asked_for_it(far: Bench, tmp_path: object) -> None:
    async def go(opened: AsyncChannel) -> int:
        reply, _ = await opened.request("listen", to=f"{tmp_path}/none", port=0)
        return int(reply["port"])

    port = far.talk(go)

    def refuses() -> bool:
        with socket.socket() as sock:
            return sock.connect_ex(("127.0.0.1", port)) != 0

    assert settled(refuses, wanted=True)
