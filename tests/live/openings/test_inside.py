"""Blocking code of a test in a network of a layout; and the other ways that HTTP clients take."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import os
import shutil
import socket
import subprocess
import threading
import urllib.parse
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from pytest_carthage import Layout, Machine, Network, V4Config, port
from pytest_carthage.channels.ssh import connection
from pytest_carthage.channels.ssh.way import Way
from pytest_carthage.errors import HostError
from pytest_carthage.fabric import syscalls
from pytest_carthage.fabric.host import privilege
from tests.live.conftest import Build, end

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
]

SERVER = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        body = f"{sys.argv[1]} greets {self.client_address[0]}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *rest): pass
http.server.ThreadingHTTPServer(("", 80), Handler).serve_forever()
"""


class Shop(Layout):
    """A web server on each of two networks, with the same kind of addresses."""

    lan = Network("10.0.0.0/24")
    dmz = Network(v4=V4Config(network="192.0.2.0/24", gateway=".1"))
    web = Machine(
        links={"eth0": lan.at(".2")},
        command=["python3", "-c", SERVER, "web"],
        wait_for=[port(80)],
    )
    front = Machine(
        links={"eth0": dmz.at(".2")},
        command=["python3", "-c", SERVER, "front"],
        wait_for=[port(80)],
    )
    gw = Machine(links={"lan0": lan.at(".1"), "dmz0": dmz.at(".1")}, forward=True)


shop = Shop.fixture()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy of the host cannot be reached from a layout."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


def whereabouts() -> tuple[str, str, str]:
    """Network and mounts of this thread, and its folder."""
    here = Path("/proc/thread-self/ns")
    return str((here / "net").readlink()), str((here / "mnt").readlink()), str(Path.cwd())


@pytest.fixture(autouse=True)
def stays_where_it_was() -> Iterator[None]:
    before = whereabouts()
    yield
    assert whereabouts() == before


def fetch(url: str) -> str:
    with urllib.request.urlopen(url, timeout=5) as answer:
        return str(answer.read().decode())


def test_urllib_reaches_machines_by_name(shop: Shop) -> None:
    # docs: inside
    with shop.inside("lan"):
        page = urllib.request.urlopen("http://web/", timeout=5).read()
    # docs: end
    assert page == b"web greets 10.0.0.254"


def test_requests_and_its_sessions_reach_machines_by_name(shop: Shop) -> None:
    requests: Any = pytest.importorskip("requests")
    with shop.inside("lan"), requests.Session() as session:
        assert session.get("http://web/", timeout=5).text == "web greets 10.0.0.254"
        assert session.get("http://10.0.0.2/", timeout=5).status_code == 200


def test_connections_of_ssh_begin_at_the_station(shop: Shop) -> None:
    async def talk() -> bytes:
        place = await shop.aio._rooms.stations.place("lan")
        way = Way(host="10.0.0.2", port=80, inside=(str(shop.aio.socket), place))
        with await connection._inside(way) as sock:
            loop = asyncio.get_running_loop()
            await loop.sock_sendall(sock, b"GET / HTTP/1.0\r\n\r\n")
            answer = b""
            while part := await loop.sock_recv(sock, 4096):
                answer += part
        return answer

    assert shop.aio.portal.call(talk).endswith(b"web greets 10.0.0.254")


@pytest.mark.skipif(not shutil.which("curl"), reason="this host has no curl")
def test_programs_started_inside_are_inside(shop: Shop) -> None:
    with shop.inside("lan"):
        done = subprocess.run(["curl", "-sS", "http://web/"], capture_output=True, text=True)
    assert done.stdout == "web greets 10.0.0.254"


def test_threads_started_inside_are_inside_and_stay_there(shop: Shop) -> None:
    begin, go_on = threading.Event(), threading.Event()
    seen: list[str] = []

    def work() -> None:
        seen.append(fetch("http://web/"))
        begin.set()
        go_on.wait(10)
        seen.append(fetch("http://web/"))

    with shop.inside("lan"):
        thread = threading.Thread(target=work)
        thread.start()
        assert begin.wait(10)
    # the thread lives on while this one has left
    with pytest.raises(OSError, match=r"."):
        fetch("http://web/")
    go_on.set()
    thread.join(10)
    assert seen == ["web greets 10.0.0.254"] * 2


def test_others_notice_nothing(shop: Shop) -> None:
    """Threads that were there before, the event loop's among them, see what they saw."""
    portal = shop.web.aio.portal

    async def of_loop() -> tuple[str, str, str]:
        return whereabouts()

    with ThreadPoolExecutor(1) as threads:
        before = threads.submit(whereabouts).result()
        hosts = Path("/etc/hosts").read_text()
        with shop.inside("lan"):
            assert threads.submit(whereabouts).result() == before
            assert threads.submit(Path("/etc/hosts").read_text).result() == hosts
            assert portal.call(of_loop) == before
            assert whereabouts()[:2] != before[:2]
            assert Path("/etc/hosts").read_text() == shop.plan.hosts_file(["lan"])
            # handles go on
            assert shop.web.run("hostname").lines == ["web"]
        assert Path("/etc/hosts").read_text() == hosts


def test_only_that_network_is_there(shop: Shop) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        with shop.inside("lan"):
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(server.getsockname(), timeout=5)
            with pytest.raises(OSError, match="Network is unreachable"):
                socket.create_connection(("192.0.2.2", 80), timeout=5)
            assert [name for _, name in socket.if_nameindex()] == ["lo", "eth0"]
        socket.create_connection(server.getsockname(), timeout=5).close()


def test_gateway_of_the_network_leads_on(shop: Shop) -> None:
    shop.web.run("ip route add default via 10.0.0.1")
    with shop.inside("dmz"):
        assert fetch("http://web/") == "web greets 192.0.2.254"


def test_nested_blocks_the_innermost_counts(shop: Shop) -> None:
    with shop.inside("lan"):
        outer = whereabouts()
        with shop.inside("dmz"):
            assert fetch("http://front/") == "front greets 192.0.2.254"
        assert whereabouts() == outer
        assert fetch("http://web/") == "web greets 10.0.0.254"


def test_two_threads_in_two_networks_at_once(shop: Shop) -> None:
    together = threading.Barrier(2)

    def work(network: str, url: str) -> list[str]:
        with shop.inside(network):
            together.wait(10)
            pages = [fetch(url) for _ in range(20)]
            together.wait(10)
        return pages

    with ThreadPoolExecutor(2) as threads:
        one = threads.submit(work, "lan", "http://web/")
        two = threads.submit(work, "dmz", "http://front/")
        assert set(one.result()) == {"web greets 10.0.0.254"}
        assert set(two.result()) == {"front greets 192.0.2.254"}


def test_exceptions_pass_and_the_thread_is_back(shop: Shop) -> None:
    before = whereabouts()
    with pytest.raises(ZeroDivisionError), shop.inside("lan"):
        raise ZeroDivisionError
    assert whereabouts() == before


@pytest.fixture
def within(shop: Shop) -> Iterator[None]:
    with shop.inside("lan"):
        yield


def test_fixture_puts_the_whole_test_inside(within: None) -> None:
    assert fetch("http://web/") == "web greets 10.0.0.254"


def test_blocks_may_end_in_any_order(shop: Shop) -> None:
    before = whereabouts()
    first, second = shop.inside("lan"), shop.inside("dmz")
    first.__enter__()
    second.__enter__()
    first.__exit__()
    assert fetch("http://front/") == "front greets 192.0.2.254"
    second.__exit__()
    assert whereabouts() == before


def test_socket_stays_in_the_network_where_it_was_made(shop: Shop) -> None:
    with shop.inside("lan"):
        connection = http.client.HTTPConnection("web", timeout=5)
        connection.connect()
    connection.request("GET", "/")
    assert connection.getresponse().read() == b"web greets 10.0.0.254"
    connection.close()


def test_machine_that_joins_is_known_to_those_inside_and_has_another_address(build: Build) -> None:
    shop: Any = build(Shop)
    with shop.inside("lan") as station:
        assert station.addresses == ("10.0.0.254/24",)
        with pytest.raises(socket.gaierror):
            socket.getaddrinfo("late", 80)
        # all addresses but one are given away, and that one is the station's
        for number in range(3):
            shop.add(Machine(links={"eth0": Shop.lan.at("auto")}), name=f"late{number}")
        assert socket.gethostbyname("late0") == shop.late0.address()
        given = {machine.address("lan") for machine in (shop.late0, shop.late1, shop.late2)}
        assert "10.0.0.254" not in given


def test_working_folder_is_kept_and_followed(shop: Shop, tmp_path: Path) -> None:
    """Files are found, although this thread's folder is its own now."""
    before, other = Path.cwd(), tmp_path / "other"
    other.mkdir()
    try:
        with shop.inside("lan"):
            assert Path.cwd() == before
            os.chdir(tmp_path)
            Path("inside.txt").write_text("inside")
            shop.web.put(Path("inside.txt").absolute(), "/tmp/")
        assert Path.cwd() == tmp_path
        Path("after.txt").write_text("after")
        shop.web.put(Path("after.txt").absolute(), "/tmp/")
        os.chdir(other)
        Path("other.txt").write_text("other")
        asyncio.run(shop.web.aio.put(Path("other.txt").absolute(), "/tmp/"))
    finally:
        os.chdir(before)
    shown = shop.web.run("cat /tmp/inside.txt /tmp/after.txt /tmp/other.txt").stdout
    assert shown == "insideafterother"


def test_folder_that_is_gone_is_no_hindrance(shop: Shop, tmp_path: Path) -> None:
    before = Path.cwd()
    gone = tmp_path / "gone"
    gone.mkdir()

    def work() -> str:
        os.chdir(gone)
        gone.rmdir()
        with shop.inside("lan"):
            return fetch("http://web/")

    def alone() -> str:
        syscalls.unshare(syscalls.CLONE_FS)
        return work()

    with ThreadPoolExecutor(1) as threads:
        assert threads.submit(alone).result() == "web greets 10.0.0.254"
    assert Path.cwd() == before


def test_unknown_network_names_those_that_there_are(shop: Shop) -> None:
    with (
        pytest.raises(LookupError, match=r"'Shop' has no network 'wan'; .* lan, dmz"),
        shop.inside("wan"),
    ):
        pass


def test_event_loop_in_the_thread_is_refused_with_a_way_out(shop: Shop) -> None:
    async def wrong() -> None:
        with (
            pytest.raises(RuntimeError, match=r"inside\('lan'\).*try: .*asyncio\.to_thread"),
            shop.inside("lan"),
        ):
            pass

    def right() -> str:
        with shop.inside("lan"):
            return fetch("http://web/")

    async def go() -> str:
        await wrong()
        return await asyncio.to_thread(right)

    assert asyncio.run(go()) == "web greets 10.0.0.254"


def test_ordinary_user_is_told_the_other_way(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(privilege, "is_privileged", lambda: False)
    expected = r"inside\(\): it needs root .*; try: machine\.connect\(\)"
    with pytest.raises(HostError, match=expected), shop.inside("lan"):
        pass


def test_block_that_runs_already_and_exit_elsewhere_are_refused(shop: Shop) -> None:
    block = shop.inside("lan")
    with block:
        with pytest.raises(RuntimeError, match="runs already"):
            block.__enter__()
        with (
            ThreadPoolExecutor(1) as threads,
            pytest.raises(RuntimeError, match="entered in another thread"),
        ):
            threads.submit(block.__exit__).result()
    with block:  # again, later
        pass


def test_failure_on_the_way_in_leaves_the_thread_where_it_was(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = whereabouts()
    with shop.inside("lan") as station:
        pass
    monkeypatch.setitem(station.mounts, "/no/such/file", "/etc/hosts")
    with pytest.raises(FileNotFoundError, match="mount"), shop.inside("lan"):
        pass
    assert whereabouts() == before


def test_resolver_is_the_networks(build: Build) -> None:
    lan = Network(v4=V4Config(network="10.0.0.0/24", dns_servers=[".53"], domains=["shop.example"]))
    layout = Layout.of("Named", {"lan": lan, "dns": Machine(links={"eth0": lan.at(".53")})})
    environment = build(layout)
    with environment.inside("lan"):
        text = Path("/etc/resolv.conf").read_text()
    assert text == "search shop.example\nnameserver 10.0.0.53\n"


def test_end_of_the_environment_lets_go_of_the_station(build: Build) -> None:
    environment = build(Shop)
    with environment.inside("lan"):
        pass
    (station,) = environment.aio.rooms.stations.made.values()
    assert station.namespace >= 0
    end(environment)
    assert station.namespace == -1


# the other ways


def test_http_client_over_a_socket_of_connect(shop: Shop) -> None:
    # docs: connect
    connection = http.client.HTTPConnection("web")
    connection.sock = shop.gw.connect(80, "web")
    connection.request("GET", "/")
    assert connection.getresponse().read() == b"web greets 10.0.0.1"
    # docs: end
    connection.close()


def test_requests_over_connect_by_an_adapter_of_its_own(shop: Shop) -> None:
    """No global is touched: the session alone knows where the machine is."""
    requests: Any = pytest.importorskip("requests")
    import urllib3

    class Connection(urllib3.connection.HTTPConnection):
        def _new_conn(self) -> socket.socket:
            return shop.gw.connect(self.port or 80, self.host)

    class Pool(urllib3.HTTPConnectionPool):
        ConnectionCls = Connection

    class Adapter(requests.adapters.HTTPAdapter):  # type: ignore[misc]
        def get_connection_with_tls_context(self, request: Any, *rest: Any, **more: Any) -> Any:
            return Pool(urllib.parse.urlsplit(request.url).hostname or "")

    with requests.Session() as session:
        session.mount("http://web", Adapter())
        assert session.get("http://web/", timeout=5).text == "web greets 10.0.0.1"


def test_any_client_over_a_forward(shop: Shop) -> None:
    # docs: forward
    with shop.gw.forward(80, "web") as port:
        page = urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5).read()
    # docs: end
    assert page == b"web greets 10.0.0.1"
    with contextlib.suppress(ImportError):
        import requests

        with shop.gw.forward(80, "web") as port:
            assert requests.get(f"http://127.0.0.1:{port}/", timeout=5).ok


def test_station_that_could_not_be_made_is_in_nobodys_way(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = build(Shop)

    async def refuse(*_: object) -> None:
        raise OSError("no")

    with monkeypatch.context() as patch:
        patch.setattr(environment.aio._contexts, "place", refuse)
        with pytest.raises(OSError, match="no"), environment.inside("lan"):
            pass
    environment.add(name="late", machine=Machine(links={"eth0": Shop.lan.at()}))
    with environment.inside("lan"):
        assert urllib.request.urlopen("http://web/", timeout=5).read().startswith(b"web greets")
