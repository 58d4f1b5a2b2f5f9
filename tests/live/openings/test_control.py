"""The station of a layout's plays: names, gates and networks, without a play."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_carthage import Layout, Machine, Network
from pytest_carthage.errors import GateError
from pytest_carthage.events import Recorder
from pytest_carthage.live.openings.control import NAME
from pytest_carthage.work.ansible.station import Station
from tests.live.conftest import Build, end
from tests.support.descendants import TREE, new_mark, wait_for

pytestmark = pytest.mark.real


class Shop(Layout):
    """Two networks with one machine each, and one that has no address left."""

    lan = Network("10.0.0.0/24")
    full = Network("192.0.2.0/30")
    web = Machine(links={"eth0": lan.at(".1")})
    one = Machine(links={"eth0": full.at(".1")})
    two = Machine(links={"eth0": full.at(".2")})


@pytest.fixture
def shop(build: Build) -> Shop:
    return build(Shop)


@pytest.fixture
def far() -> Iterator[tuple[str, list[bytes]]]:
    """A service of the host, which hangs up: ``host:port``, and what it was told."""
    heard: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            with contextlib.suppress(OSError):
                while True:
                    sock, _ = server.accept()
                    with sock:
                        heard.append(sock.recv(100))
                        sock.sendall(b"outside")

        threading.Thread(target=answer, daemon=True).start()
        yield f"localhost:{server.getsockname()[1]}", heard


async def ask(shop: Shop, address: str, port: int) -> bytes:
    """What answers in the station at an address."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    _, fds = await shop.aio.fabric.request(
        "socket", machine=NAME, family=family, connect=[address, port]
    )
    with socket.socket(fileno=fds[0]) as sock:
        sock.setblocking(False)
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(10):
            await loop.sock_sendall(sock, b"hello")
            return await loop.sock_recv(sock, 100)


def hosts(station: Station) -> str:
    """The names that plays know."""
    (file,) = (file for file, path in station.files.items() if path == "/etc/hosts")
    return Path(file).read_text()


def test_station_is_made_once_and_tells_which_network_it_is_not_on(
    shop: Shop, recorder: Recorder
) -> None:
    async def go() -> None:
        async with shop.aio.ansible_station((), for_s=60) as station:
            first = station.network
        async with shop.aio.ansible_station((), for_s=60) as station:
            assert station.network == first

    shop.aio.portal.call(go)
    notes = [event.text for event in recorder.events if event.subject == "ansible"]
    assert notes == [
        "plays are not on network full: network 'full' of layout 'Shop': no address is left in"
        " 192.0.2.0/30 for a station; try: a larger network"
    ]
    assert [(key, link.network) for key, link in shop.plan.stations.items()] == [
        ("control:lan", "lan")
    ]


def test_station_learns_of_machines_that_join_and_leave(shop: Shop) -> None:
    async def go() -> None:
        async with shop.aio.ansible_station((), for_s=60) as station:
            assert "10.0.0.1 web\n" in hosts(station)
            await shop.aio.add(Machine(links={"eth0": shop.lan.at(".9")}), name="till")
            assert "10.0.0.9 till\n" in hosts(station)
            await shop.aio.remove("till")
            assert "till" not in hosts(station)

    shop.aio.portal.call(go)


def test_plays_at_the_same_time_share_a_gate(shop: Shop, far: tuple[str, list[bytes]]) -> None:
    to, heard = far
    port = int(to.rpartition(":")[2])

    async def go() -> None:
        async with shop.aio.ansible_station((to,), for_s=60):
            async with shop.aio.ansible_station((to, to), for_s=60):
                assert await ask(shop, "127.0.0.1", port) == b"outside"
            assert await ask(shop, "127.0.0.1", port) == b"outside"
        with pytest.raises(OSError, match="refused"):
            await ask(shop, "127.0.0.1", port)
        async with shop.aio.ansible_station((to,), for_s=60):
            assert await ask(shop, "127.0.0.1", port) == b"outside"

    shop.aio.portal.call(go)
    assert heard == [b"hello"] * 3
    assert [(record.to, record.closed_by) for record in shop.gates] == [(to, "test")] * 2


def test_gate_whose_time_is_over_is_opened_anew(shop: Shop, far: tuple[str, list[bytes]]) -> None:
    to, _ = far
    port = int(to.rpartition(":")[2])

    async def go() -> None:
        async with shop.aio.ansible_station((to,), for_s=60):
            await shop.aio.rooms.gates.opened[0].aclose("time")
            async with shop.aio.ansible_station((to,), for_s=60):
                assert await ask(shop, "127.0.0.1", port) == b"outside"

    shop.aio.portal.call(go)
    assert [record.closed_by for record in shop.gates] == ["time", "test"]


def test_gate_stays_open_for_the_play_that_takes_longest(
    shop: Shop, far: tuple[str, list[bytes]]
) -> None:
    to, _ = far

    async def go() -> None:
        async with (
            shop.aio.ansible_station((to,), for_s=1000),
            shop.aio.ansible_station((to,), for_s=5000),
            shop.aio.ansible_station((to,), for_s=10),
        ):
            (gate,) = shop.aio.rooms.gates.opened
            assert gate._timer is not None
            assert gate._timer.when() > asyncio.get_running_loop().time() + 4000

    shop.aio.portal.call(go)


@pytest.mark.parametrize("address", ["203.0.113.7", "2001:db8::7"])
def test_address_of_the_world_leads_to_its_gate(shop: Shop, address: str) -> None:
    host = f"[{address}]" if ":" in address else address

    async def go() -> None:
        async with shop.aio.ansible_station((f"{host}:443",), for_s=60):
            (record,) = shop.gates
            assert record.listens == f"{host}:443"
            # nobody is there outside: the gate has taken the connection, and cuts it
            _, fds = await shop.aio.fabric.request(
                "socket",
                machine=NAME,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                connect=[address, 443],
            )
            socket.socket(fileno=fds[0]).close()

    shop.aio.portal.call(go)


def test_socket_of_a_service_is_reached_in_its_place_and_recorded(
    shop: Shop, tmp_path: Path
) -> None:
    path = tmp_path / "service.sock"
    code = (
        f"import socket; s = socket.socket(socket.AF_UNIX); s.connect({str(path)!r});"
        " s.sendall(b'hello'); print(s.recv(9).decode())"
    )

    async def go() -> str:
        async with shop.aio.ansible_station((str(path),), for_s=60) as station:
            process = await asyncio.create_subprocess_exec(
                *station.command(os.environ),
                *(sys.executable, "-c", code),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                pass_fds=station.descriptors,
            )
            assert process.stdout is not None
            printed = await process.stdout.read()
            assert await process.wait() == 0
        return printed.decode()

    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()

        def answer() -> None:
            sock, _ = server.accept()
            with sock:
                sock.sendall(sock.recv(9))

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        assert shop.aio.portal.call(go) == "hello\n"
        thread.join(10)
    (record,) = shop.gates
    assert (record.to, record.listens, record.closed_by) == (str(path), str(path), "test")
    assert (record.sent_bytes, record.received_bytes) == (5, 5)
    assert not list((shop.aio.folder / "stations/ansible").glob("*.sock"))


@pytest.mark.parametrize(
    ("path", "expected"), [("/dev/null", "this is no socket"), ("/nowhere", "No such file")]
)
def test_path_of_no_socket_is_refused(shop: Shop, path: str, expected: str) -> None:
    async def go() -> None:
        async with shop.aio.ansible_station((path,), for_s=60):
            pass

    with pytest.raises(GateError, match=rf"gate of .* to '{path}': {expected}"):
        shop.aio.portal.call(go)


def test_station_is_made_once_also_when_nobody_has_time_for_it(shop: Shop) -> None:
    async def go() -> None:
        async def play() -> None:
            async with shop.aio.ansible_station((), for_s=60):
                pass

        hasty = asyncio.create_task(play())
        await asyncio.sleep(0)
        hasty.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await hasty
        async with asyncio.TaskGroup() as group:
            for _ in range(3):
                group.create_task(play())

    shop.aio.portal.call(go)


def test_destination_of_a_machine_is_refused_and_leaves_no_gate(shop: Shop) -> None:
    async def go() -> None:
        async with shop.aio.ansible_station(("10.0.0.1:80",), for_s=60):
            pass

    expected = r"outside='10\.0\.0\.1:80': in layout 'Shop' 10\.0\.0\.1 is machine 'web'"
    with pytest.raises(GateError, match=expected):
        shop.aio.portal.call(go)
    assert shop.gates == ()


def test_seal_holds_with_a_station(shop: Shop, as_root: None) -> None:
    async def go() -> None:
        async with shop.aio.ansible_station((), for_s=60):
            pass

    shop.aio.portal.call(go)
    shop.assert_sealed()


@pytest.mark.parametrize("way", ["close", "kill"])
def test_end_of_a_play_ends_all_that_it_has_started(shop: Shop, way: str) -> None:
    mark = new_mark()

    async def go() -> None:
        async with shop.aio.ansible_station((), for_s=60) as station:
            process = await asyncio.create_subprocess_exec(
                *station.command(os.environ),
                *("/bin/sh", "-c", TREE.format(mark=mark)),
                stdin=asyncio.subprocess.PIPE,
                pass_fds=station.descriptors,
            )
            await asyncio.to_thread(wait_for, 3, mark)
            assert process.stdin is not None
            if way == "close":
                process.stdin.close()
            else:
                process.kill()
            await process.wait()
        await asyncio.to_thread(wait_for, 0, mark)

    shop.aio.portal.call(go)


def test_what_a_play_leaves_running_ends_with_the_layout(shop: Shop) -> None:
    mark = new_mark()

    async def go() -> None:
        async with shop.aio.ansible_station((), for_s=60) as station:
            process = await asyncio.create_subprocess_exec(
                *station.command(os.environ),
                *("/bin/sh", "-c", f"setsid sleep {mark} >/dev/null 2>&1 &"),
                stdin=asyncio.subprocess.PIPE,
                pass_fds=station.descriptors,
            )
            assert await process.wait() == 0
        await asyncio.to_thread(wait_for, 1, mark)

    shop.aio.portal.call(go)
    end(shop)
    wait_for(0, mark)
