"""Gates: what passes, what is recorded, and that nothing stays open."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import shutil
import socket
import socketserver
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from pytest_carthage import Layout, Machine, Network
from pytest_carthage.errors import GateError
from pytest_carthage.events import Recorder
from pytest_carthage.live.openings import gate as gates
from pytest_carthage.live.openings.gate import Gate, destination
from pytest_carthage.portal import Portal
from tests.live.conftest import Build, end

real = pytest.mark.real
NAME = "export.prod.example"


class Shop(Layout):
    """Two machines; the address of one is also that of a host outside."""

    lan = Network("10.0.0.0/24")
    db = Machine(links={"eth0": lan.at(".1")})
    web = Machine(links={"eth0": lan.at(".2")})


shop = Shop.fixture()


@pytest.fixture(autouse=True)
def resolver(monkeypatch: pytest.MonkeyPatch) -> None:
    """The host's resolver knows one more name."""
    real_one = socket.getaddrinfo

    def resolve(host: Any, *rest: Any, **more: Any) -> Any:
        known = "127.0.0.1" if str(host).endswith(".prod.example") else host
        return real_one(known, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)


Talk = Callable[[socket.socket], None]


@contextlib.contextmanager
def outside(talk: Talk, address: str = "127.0.0.1") -> Iterator[int]:
    """A server on the host; gives its port."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with contextlib.suppress(OSError):
                talk(self.request)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        block_on_close = False
        request_queue_size = 512

    with Server((address, 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


def echo(sock: socket.socket) -> None:
    while data := sock.recv(1 << 16):
        sock.sendall(data)


def count(sock: socket.socket) -> None:
    """Take in everything, and tell its size and hash only after the end of it."""
    seen, total = hashlib.sha256(), 0
    while data := sock.recv(1 << 16):
        seen.update(data)
        total += len(data)
    sock.sendall(f"{total} {seen.hexdigest()}".encode())


def everything(sock: socket.socket) -> bytes:
    parts = []
    while data := sock.recv(1 << 16):
        parts.append(data)
    return b"".join(parts)


def closed_soon(ended: Callable[[], bool], timeout_s: float = 5.0) -> bool:
    deadline = time.monotonic() + timeout_s
    while not ended() and time.monotonic() < deadline:
        time.sleep(0.01)
    return ended()


@real
def test_name_of_the_far_end_leads_through_the_gate_and_nowhere_afterwards(shop: Shop) -> None:
    before = shop.web.read_text("/etc/hosts")
    with outside(echo) as port:
        with shop.gate(shop.web, to=f"{NAME}:{port}") as gate:
            assert (gate.address, gate.port, gate.is_open) == ("127.86.0.1", port, True)
            with shop.web.connect(port, NAME) as sock:
                sock.sendall(b"hello")
                assert sock.recv(100) == b"hello"
            with pytest.raises(OSError, match=r"no host 'export\.prod\.example'"):
                shop.db.connect(port, NAME)
        assert not gate.is_open
        assert shop.web.read_text("/etc/hosts") == before
        with pytest.raises(ConnectionRefusedError, match=rf"127\.86\.0\.1:{port}"):
            shop.web.connect(port, "127.86.0.1")


@real
@pytest.mark.skipif(not shutil.which("curl"), reason="this host has no curl")
@pytest.mark.skipif(not shutil.which("openssl"), reason="this host has no openssl")
def test_tls_client_in_the_machine_checks_the_name_of_the_far_end(
    shop: Shop, tmp_path: Path
) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    request = f"req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN={NAME}"
    names = f"-addext subjectAltName=DNS:{NAME} -keyout {key} -out {certificate}"
    subprocess.run(["openssl", *request.split(), *names.split()], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    def answer(sock: socket.socket) -> None:
        with context.wrap_socket(sock, server_side=True) as tls:
            tls.recv(1 << 16)
            tls.sendall(b"HTTP/1.0 200 OK\r\n\r\nthe export")

    shop.web.put(certificate, "/tmp/certificate.pem")
    with outside(answer) as port:
        # docs: gate
        with shop.gate("web", to=f"export.prod.example:{port}", for_s=30) as gate:
            url = f"https://export.prod.example:{port}/"
            page = shop.web.run(f"curl -sS --noproxy '*' --cacert /tmp/certificate.pem {url}")
        assert page.stdout == "the export"
        assert gate.record.received_bytes > len("the export")
        # docs: end


@real
def test_address_that_the_machine_uses_itself_means_the_host_behind_the_gate(shop: Shop) -> None:
    """The far end's address is the machine's own loopback, and nothing is confused."""
    with outside(lambda sock: sock.sendall(b"outside")) as port:
        own = (
            f"import socket; s = socket.create_server(('127.0.0.1', {port}))\n"
            "while True: c, _ = s.accept(); c.sendall(b'inside'); c.close()"
        )
        with ThreadPoolExecutor(1) as threads:
            running = threads.submit(shop.web.run, ["python3", "-c", own], timeout_s=3, check=False)
            while port not in [row["port"] for row in shop.web.observe()["listening"]]:
                time.sleep(0.02)
            with shop.gate("web", to=f"127.0.0.1:{port}") as gate:
                with shop.web.connect(port, gate.address) as sock:
                    assert everything(sock) == b"outside"
                with shop.web.connect(port) as sock:
                    assert everything(sock) == b"inside"
            assert running.exception() is not None  # its time limit


@real
def test_host_of_the_layouts_own_addresses_is_reached_by_a_gate(build: Build) -> None:
    """The layout's network is the very one that the host is on."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing
        except OSError:
            pytest.skip("this host has no address but its loopback's")
        address = probe.getsockname()[0]
    lan = Network(address.rpartition(".")[0] + ".0/24")
    last = int(address.rpartition(".")[2])
    twin = Layout.of(
        "Twin",
        {
            "lan": lan,
            "db": Machine(links={"eth0": lan.at(address)}),
            "web": Machine(links={"eth0": lan.at(f".{last % 250 + 1}")}),
        },
    )
    environment = build(twin)
    live: Any = environment
    with outside(lambda sock: sock.sendall(b"outside"), address) as port:
        with pytest.raises(ConnectionRefusedError):
            live.web.connect(port, "db")  # the same address, within the layout
        with (
            live.gate("web", to=f"{address}:{port}") as gate,
            live.web.connect(port, gate.address) as sock,
        ):
            assert everything(sock) == b"outside"


@real
def test_50_mb_go_through_unchanged_and_half_close_is_passed_on(shop: Shop) -> None:
    data = os.urandom(1 << 20) * 50
    expected = f"{len(data)} {hashlib.sha256(data).hexdigest()}".encode()
    with outside(count) as port, shop.gate("web", to=f"{NAME}:{port}") as gate:
        with shop.web.connect(port, NAME) as sock:
            sock.settimeout(10)
            sock.sendall(data)
            sock.shutdown(socket.SHUT_WR)
            assert everything(sock) == expected
        assert closed_soon(lambda: gate.record.connections[0].ended_at is not None)
        (seen,) = gate.record.connections
        assert (seen.sent_bytes, seen.received_bytes, seen.error) == (
            len(data),
            len(expected),
            None,
        )


@real
def test_reader_that_waits_holds_the_sender_up(shop: Shop) -> None:
    """A gate keeps little: who sends waits for who reads."""
    go = threading.Event()

    def lazy(sock: socket.socket) -> None:
        go.wait(10)
        echo(sock)

    with outside(lazy) as port, shop.gate("web", to=f"{NAME}:{port}"):
        with shop.web.connect(port, NAME) as sock:
            sock.settimeout(0.5)
            sent = 0
            with contextlib.suppress(TimeoutError):
                while sent < 200 << 20:
                    sent += sock.send(bytes(1 << 20))
            go.set()
        assert 0 < sent < 100 << 20


@real
def test_two_hundred_connections_at_once(shop: Shop) -> None:
    with outside(echo) as port, shop.gate("web", to=f"{NAME}:{port}") as gate:
        with contextlib.ExitStack() as stack:
            socks = [stack.enter_context(shop.web.connect(port, gate.address)) for _ in range(200)]
            for number, sock in enumerate(socks):
                sock.sendall(f"{number:03}".encode())
            assert [int(sock.recv(3)) for sock in socks] == list(range(200))
        assert closed_soon(lambda: all(one.ended_at for one in gate.record.connections))
        record = gate.record
    assert (len(record.connections), record.sent_bytes, record.failed) == (200, 600, 0)


@real
def test_very_many_connections_are_counted_and_the_last_are_kept(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gates, "_MOST_ENDED", 3)
    with (
        outside(echo) as port,
        shop.gate("web", to=f"{NAME}:{port}") as gate,
        shop.web.connect(port, gate.address) as first,
    ):
        for number in range(5):
            with shop.web.connect(port, gate.address) as sock:
                sock.sendall(b"x" * number)
            assert closed_soon(partial(has_ended, gate, number + 1))
        first.sendall(b"first")
        assert first.recv(5) == b"first"
        record = gate.record
    assert (record.count, len(record.connections), record.earlier.connections) == (6, 4, 2)
    assert record.connections[0].ended_at is None, "it goes on, however old it is"
    assert record.sent_bytes == 5 + 0 + 1 + 2 + 3 + 4


def has_ended(gate: Gate, count: int) -> bool:
    """Whether so many connections of a gate have ended."""
    record = gate.record
    ended = sum(one.ended_at is not None for one in record.connections)
    return record.earlier.connections + ended == count


@real
def test_gate_closes_by_itself_and_cuts_what_is_connected(shop: Shop) -> None:
    with outside(echo) as port, shop.gate("web", to=f"{NAME}:{port}", for_s=0.3) as gate:
        with shop.web.connect(port, NAME) as sock:
            sock.settimeout(5)
            sock.sendall(b"x")
            assert sock.recv(1) == b"x"
            with pytest.raises(ConnectionResetError):
                sock.recv(1)
        assert closed_soon(lambda: not gate.is_open)
        with pytest.raises(ConnectionRefusedError):
            shop.web.connect(port, gate.address)
        assert NAME not in shop.web.read_text("/etc/hosts")
        record = gate.record
        assert record.closed_by == "time"
        assert record.closed_at is not None
        assert 0.25 < record.closed_at - record.opened_at < 3
        assert record.connections[0].error == "cut when the gate closed"


@real
def test_connection_whose_far_end_is_done_is_not_cut_while_the_machine_says_so(shop: Shop) -> None:
    """On a busy host, the word of one side's end may come after the gate is to be closed."""

    def answer(sock: socket.socket) -> None:
        sock.sendall(sock.recv(100) * 2)

    def late(sock: socket.socket) -> None:
        time.sleep(0.2)
        sock.close()

    with outside(answer) as port:
        with shop.gate("web", to=f"{NAME}:{port}") as gate:
            sock = shop.web.connect(port, gate.address)
            sock.sendall(b"hello")
            assert everything(sock) == b"hellohello"
            thread = threading.Thread(target=late, args=(sock,))
            thread.start()
        thread.join()
    (connection,) = gate.record.connections
    assert connection.error is None


@real
def test_far_end_that_refuses_resets_the_connection_and_is_recorded(
    build: Build, recorder: Recorder
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    shop: Any = build(Shop)
    with shop.gate("web", to=f"{NAME}:{port}") as gate:
        with shop.web.connect(port, NAME) as sock, pytest.raises(ConnectionResetError):
            sock.recv(1)
        assert closed_soon(lambda: gate.record.failed == 1)
    (record,) = shop.gates
    assert record.connections[0].error == f"127.0.0.1:{port}: Connection refused"
    told = [
        (event.kind, event.text)
        for event in recorder.events
        if event.subject == f"gate web to {NAME}:{port}"
    ]
    assert told == [
        ("start", f"127.86.0.1:{port} for 60 s"),
        ("note", f"127.0.0.1:{port}: Connection refused"),
        ("done", "1 connection, 0 bytes out, 0 bytes in, 1 failed"),
    ]


@real
def test_ports_of_one_host_share_an_address_and_other_hosts_have_others(shop: Shop) -> None:
    with outside(echo) as first, outside(echo) as second:
        with (
            shop.gate("db", to=f"{NAME}:{first}") as one,
            shop.gate("db", to=f"other.prod.example:{first}") as other,
        ):
            with shop.gate("db", to=f"{NAME}:{second}") as two:
                assert two.address == one.address != other.address
            shop.db.connect(first, NAME).close()  # the name is there as long as one needs it
            shop.db.connect(first, "other.prod.example").close()
        with shop.gate("db", to=f"{NAME}:{second}") as again:
            assert again.address == one.address
    assert "gate" not in shop.db.read_text("/etc/hosts")


@real
def test_gates_that_open_at_once_have_addresses_of_their_own(shop: Shop) -> None:
    async def open_all() -> set[str]:
        async with contextlib.AsyncExitStack() as stack:
            gates = await asyncio.gather(
                *(
                    stack.enter_async_context(
                        shop.aio.gate("db", to=f"at-once-{number}.prod.example:4443")
                    )
                    for number in range(20)
                )
            )
            hosts = await shop.aio.db.read_text("/etc/hosts")
            assert all(f"at-once-{number}.prod.example" in hosts for number in range(20))
            return {gate.address for gate in gates}

    assert len(asyncio.run(open_all())) == 20
    assert "at-once" not in shop.db.read_text("/etc/hosts")


@real
def test_awaited_gate_stays_until_it_is_closed(shop: Shop) -> None:
    async def go(port: int) -> None:
        gate = await shop.aio.gate("db", to=f"{NAME}:{port}")
        (await shop.aio.db.connect(port, NAME)).close()
        await gate.aclose()
        await gate.aclose()
        with pytest.raises(ConnectionRefusedError):
            await shop.aio.db.connect(port, gate.address)

    with outside(echo) as port:
        asyncio.run(go(port))


@real
@pytest.mark.parametrize("after_s", [0, 0.0003, 0.001, 0.002, 0.004, 0.01])
def test_cancelled_opening_leaves_nothing(shop: Shop, after_s: float) -> None:
    async def go() -> None:
        opening = shop.aio.gate("db", to="late.prod.example:4444")
        task = asyncio.ensure_future(opening.__aenter__())
        await asyncio.sleep(after_s)
        if task.cancel():
            with pytest.raises(asyncio.CancelledError):
                await task
        await opening.__aexit__()

    asyncio.run(go())
    # what was asked for when it was cancelled comes all the same, and is let go of then
    deadline = time.monotonic() + 20
    while 4444 in [row["port"] for row in shop.db.observe()["listening"]]:
        assert time.monotonic() < deadline
    assert "late" not in shop.db.read_text("/etc/hosts")


@real
def test_opening_that_is_cancelled_when_all_but_done_leaves_nothing(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    listening, go_on = threading.Event(), threading.Event()
    machine = shop.db.aio
    write_names = machine.write_names

    async def slow() -> None:
        listening.set()
        await asyncio.to_thread(go_on.wait, 5)
        await write_names()

    async def go() -> None:
        task = asyncio.ensure_future(shop.aio.gate("db", to="late.prod.example:4448").__aenter__())
        assert await asyncio.to_thread(listening.wait, 5)
        monkeypatch.setattr(machine, "write_names", write_names)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    monkeypatch.setattr(machine, "write_names", slow)
    asyncio.run(go())
    go_on.set()
    assert 4448 not in [row["port"] for row in shop.db.observe()["listening"]]
    assert "late" not in shop.db.read_text("/etc/hosts")


@real
def test_failing_test_and_ctrl_c_leave_nothing_open(shop: Shop) -> None:
    for error in (ZeroDivisionError, KeyboardInterrupt):
        with pytest.raises(error), shop.gate("db", to=f"{NAME}:4445"):
            raise error
        assert 4445 not in [row["port"] for row in shop.db.observe()["listening"]]


@real
def test_machines_that_join_do_not_take_the_name_away(build: Build) -> None:
    shop: Any = build(Shop)
    with outside(echo) as port, shop.gate("web", to=f"{NAME}:{port}") as gate:
        shop.add(Machine(links={"eth0": Shop.lan.at("auto")}), name="new")
        shop.web.connect(port, NAME).close()
        assert "new" in shop.web.read_text("/etc/hosts")
        shop.web.restart()
        shop.web.connect(port, NAME).close()
        shop.remove("web")
        assert not gate.is_open
        assert gate.record.closed_by == "end"


@real
def test_end_of_the_environment_closes_its_gates(build: Build, portal: Portal) -> None:
    environment = build(Shop)
    shop: Any = environment
    gate = portal.call(lambda: _await(shop.aio.gate("web", to=f"{NAME}:4446")))
    end(environment)
    assert not gate.is_open
    assert [record.closed_by for record in shop.gates] == ["end"]


async def _await(opening: Any) -> Any:
    return await opening


@real
@pytest.mark.parametrize(
    ("to", "for_s", "message"),
    [
        (
            "no-such-host.invalid:443",
            60,
            r"gate of machine 'web' of layout 'Shop' to 'no-such-host.invalid:443': "
            r"'no-such-host.invalid' does not resolve where the tests run \(.+\); "
            r"try: getent hosts no-such-host.invalid, or an address instead",
        ),
        (NAME, 60, r"no port; try: to=\"export.prod.example:443\""),
        (f"{NAME}:https", 60, r"port 'https' is no number from 1 to 65535; try: to=\"exp.*:443\""),
        (f"{NAME}:0", 60, "port '0' is no number"),
        (f"{NAME}:65536", 60, "port '65536' is no number"),
        (f"{NAME}:", 60, "port '' is no number"),
        (f"https://{NAME}/x", 60, r"a URL is no destination; try: to=\"export.prod.example:443\""),
        ("::1", 60, r"no port; try: to=\"\[::1\]:443\""),
        ("a b:443", 60, "'a b' is no name of a host"),
        (":443", 60, "'' is no name of a host"),
        ("x" * 64 + ".example:443", 60, r"is no name of a host \(.*label.*\)"),
        ("DB:443", 60, "'db' is a machine of the layout; try: the full name"),
        (f"{NAME}:443", 0, "for_s=0 is no time; try: for_s=60"),
        (f"{NAME}:443", -1, "for_s=-1 is no time"),
        (f"{NAME}:443", float("nan"), "for_s=nan is no time"),
        (f"{NAME}:443", "60", "for_s='60' is no time"),
        (443, 60, r"gate of machine 'web' of layout 'Shop' to 443: no \"host:port\"; try: to="),
        ("[::1]", 60, r"no port; try: to=\"\[::1\]:443\""),
        ("host:80:90", 60, r"no port; try: to=\"host:443\""),
    ],
)
def test_bad_input_is_refused_before_anything_listens(
    shop: Shop, to: Any, for_s: Any, message: str
) -> None:
    before = len(shop.gates)
    with pytest.raises(GateError, match=message), shop.gate("web", to=to, for_s=for_s):
        pass
    assert len(shop.gates) == before
    assert shop.web.observe()["listening"] == []


@real
def test_unknown_machine_is_named(shop: Shop) -> None:
    with (
        pytest.raises(LookupError, match=r"'wep'.*: no such machine; there are: db, web"),
        shop.gate("wep", to=f"{NAME}:443"),
    ):
        pass


@real
def test_stopped_machine_is_refused(shop: Shop) -> None:
    shop.db.stop()
    try:
        with (
            pytest.raises(GateError, match=r"machine 'db' .*: it is stopped; try: start\(\)"),
            shop.gate("db", to=f"{NAME}:443"),
        ):
            pass
    finally:
        shop.db.start()


@real
def test_service_has_its_port_on_all_addresses_beside_a_gate(shop: Shop) -> None:
    with outside(echo) as port, shop.web.socket() as before, shop.web.socket() as after:
        before.bind(("", port))
        before.listen()
        with shop.gate("web", to=f"127.0.0.1:{port}") as gate:
            with shop.web.connect(gate.port, gate.address) as sock:
                sock.sendall(b"out")
                assert sock.recv(3) == b"out"
            before.close()
            after.bind(("", port))  # as a service that is started again
            after.listen()
            with shop.web.connect(gate.port, gate.address) as sock:
                sock.sendall(b"out")
                assert sock.recv(3) == b"out"
            with shop.web.connect(port, "127.0.0.1"):
                after.accept()[0].close()


@real
def test_port_that_is_taken_in_the_machine_is_refused(shop: Shop) -> None:
    with (
        shop.gate("db", to=f"{NAME}:4447"),
        pytest.raises(GateError, match=r"port 4447 is taken on 127\.86\..*a gate is open there"),
        shop.gate("db", to=f"{NAME}:4447"),
    ):
        pass


@pytest.mark.parametrize(
    ("to", "expected"),
    [
        ("192.0.2.1:80", ("192.0.2.1", 80)),
        ("[2001:db8::1]:80", ("2001:db8::1", 80)),
        ("Export.Prod.Example.:80", ("export.prod.example", 80)),
        ("bücher.example:80", ("xn--bcher-kva.example", 80)),
    ],
)
def testdestination(to: str, expected: tuple[str, int]) -> None:
    assert destination(to) == expected
