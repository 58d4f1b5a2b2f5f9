"""Every way out of a play that is known: each finds the layout or a refusal, never the host.

The tests run in a network namespace that plays the host. It has an address that a machine of the
layout has too, one of the world, and its loopback, with a service that listens at each of them,
and sockets of services. The last tests make it, for root and for an ordinary user.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from pytest_carthage import Layout, Machine, Network
from pytest_carthage.errors import AnsibleError, GateError
from pytest_carthage.fabric.host import privilege
from tests.support.unprivileged import REPOSITORY, as_user

#: tells that the host is played; a process that the play leaves running has it as its argument
_STAGE = "WAYS_STAGE"
TREE = Path(__file__).with_name("ways_out")

pytestmark = [
    pytest.mark.real,
    pytest.mark.timeout(300),
    pytest.mark.skipif(
        not (Path(sys.executable).parent / "ansible-playbook").exists()
        and shutil.which("ansible-playbook") is None,
        reason="no ansible-playbook; try: pip install 'pytest-carthage[ansible]'",
    ),
]
on_stage = pytest.mark.skipif(
    _STAGE not in os.environ, reason="is run by the last tests, in a network that plays the host"
)

#: a machine's, and the host's
TWIN = "10.86.0.1"
#: of the world
WORLD = "198.51.100.7"
NAME = "export.prod.example"
PORT = 8086
ABSTRACT = "carthage-ways-out"
OF_CALLBACK = {
    "callback to loopback": f"127.0.0.1:{PORT}",
    "callback to the twin": f"{TWIN}:{PORT}",
}
OF_INVENTORY = {"loopback": f"127.0.0.1:{PORT}", "twin": f"{TWIN}:{PORT}"}
#: these do something else
WITHOUT_ANSWER = ("address that was added", "process that is left running")

#: what a machine of the layout answers with
SERVE = f"""
from http.server import BaseHTTPRequestHandler, HTTPServer
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"layout")
HTTPServer(("", {PORT}), Handler).serve_forever()
"""


class Shop(Layout):
    """A machine with an address that the host has, too."""

    lan = Network("10.86.0.0/24")
    web = Machine(command=["python3", "-c", SERVE], links={"eth0": lan.at(".1")})


class Alone(Layout):
    """A machine without a network."""

    one = Machine()


shop = Shop.fixture()
alone = Alone.fixture()


def _ways() -> list[str]:
    """Names of the tasks of the playbook, and what its programs try by themselves."""
    plays = yaml.safe_load((TREE / "ways.yml").read_text())
    tasks = [task for play in plays for task in play["tasks"]]
    tasks = [inner for task in tasks for inner in task.get("block", [task])]
    names = [task["name"] for task in tasks if task["name"] not in WITHOUT_ANSWER]
    return [*OF_CALLBACK, *names]


class Host:
    """The services of the host, and who was asked."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        #: where somebody has connected
        self.asked: list[str] = []

    def serve(self, address: Any) -> socket.socket:
        """Answer everybody who connects."""
        sock = socket.socket(socket.AF_INET if isinstance(address, tuple) else socket.AF_UNIX)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        sock.listen()
        threading.Thread(target=self._answer, args=(sock, str(address)), daemon=True).start()
        return sock

    def _answer(self, listener: socket.socket, address: str) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = listener.accept()
                self.asked.append(address)
                with sock, contextlib.suppress(OSError):
                    sock.recv(1000)
                    sock.sendall(b"HTTP/1.0 200 OK\r\n\r\nescaped")


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    with tempfile.TemporaryDirectory(prefix="ways-") as folder, contextlib.ExitStack() as stack:
        host = Host(Path(folder))
        sockets = ("/run/docker.sock", "/run/dbus/system_bus_socket", f"{folder}/elsewhere")
        addresses = [(address, PORT) for address in ("127.0.0.1", TWIN, WORLD)]
        for address in (*addresses, f"\0{ABSTRACT}", *sockets):
            stack.enter_context(host.serve(address))
        yield host


@dataclass
class Outcome:
    """What a play has seen."""

    #: way to what answered
    seen: Mapping[str, str]
    #: addresses of the host at which somebody was asked
    asked: list[str]


def play(shop: Shop, host: Host, **options: Any) -> Outcome:
    """Run the playbook of all ways."""
    before = len(host.asked)
    record = host.folder / "seen"
    record.unlink(missing_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WAYS_SEEN", str(record))
        patch.setenv("WAYS_WORLD", WORLD)
        patch.setenv("WAYS_PORT", str(PORT))
        patch.setenv("WAYS_OF_CALLBACK", json.dumps(OF_CALLBACK))
        patch.setenv("WAYS_OF_INVENTORY", json.dumps(OF_INVENTORY))
        patch.setenv("ANSIBLE_SSH_ARGS", "-o ConnectTimeout=3 -o BatchMode=yes")
        values = {
            "folder": str(host.folder),
            "twin": TWIN,
            "world": WORLD,
            "name": NAME,
            "port": PORT,
            "abstract": ABSTRACT,
            "mark": os.environ[_STAGE],
        }
        with contextlib.suppress(AnsibleError):  # what is refused has failed
            shop.ansible(
                TREE / "ways.yml",
                extra_vars=values,
                inventory_extra=TREE / "dynamic.py",
                timeout_s=120,
                **options,
            )
    lines = record.read_text().splitlines()
    return Outcome(dict(json.loads(line) for line in lines), host.asked[before:])


def is_running(mark: str) -> bool:
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if path.read_text() == f"sleep\0{mark}\0":
                return True
    return False


@pytest.fixture(scope="module")
def outcome(shop: Shop, host: Host) -> Outcome:
    return play(shop, host)


@on_stage
@pytest.mark.parametrize("way", _ways())
def test_way_out_finds_the_layout_or_a_refusal(outcome: Outcome, way: str) -> None:
    seen = outcome.seen[way]
    if way.endswith(("the twin", "the machine")):
        assert seen == "layout"
    else:
        assert "escaped" not in seen
        assert not seen.startswith(("reached", "OK "))
        assert seen != "layout"


@on_stage
def test_host_was_asked_by_nobody(outcome: Outcome) -> None:
    assert outcome.asked == []


@on_stage
def test_process_left_running_goes_on(outcome: Outcome) -> None:
    assert is_running(os.environ[_STAGE]), outcome.seen["process that is left running"]


@on_stage
def test_declared_destination_is_reached_by_its_name_and_recorded(shop: Shop, host: Host) -> None:
    outside = [f"{NAME}:{PORT}", f"{WORLD}:{PORT}", f"localhost:{PORT}"]
    seen = play(shop, host, outside=outside, tags="declared").seen
    for way in ("uri by name", "uri to the world", "uri to localhost", "url to loopback"):
        assert seen[way].endswith("escaped"), way
    assert seen["uri to the twin"] == "layout"
    records = {record.to: record for record in shop.gates}
    assert list(records) == outside
    for record in records.values():
        assert record.machine == "station:ansible"
        assert record.closed_by == "test"
        assert record.connections
        assert record.received_bytes


@on_stage
def test_destination_that_a_machine_has_is_refused(shop: Shop) -> None:
    expected = rf"outside='{TWIN}:1': in layout 'Shop' {TWIN} is machine 'web'.*try: the name"
    with pytest.raises(GateError, match=expected):
        shop.ansible(TREE / "ways.yml", outside=[f"{TWIN}:1"])


@on_stage
@pytest.mark.parametrize(
    ("to", "expected"),
    [
        ("https://export.prod.example/", r"a URL is no destination"),
        ("export.prod.example", r"no port; try: to="),
        ("nowhere.prod.example:1", r"'nowhere\.prod\.example' does not resolve"),
        ("web:80", r"'web' is a machine of the layout"),
    ],
)
def test_destination_that_is_none_is_refused(shop: Shop, to: str, expected: str) -> None:
    with pytest.raises(GateError, match=expected):
        shop.ansible(TREE / "ways.yml", outside=[to])


@on_stage
def test_layout_without_networks_has_loopback_alone(
    alone: Alone, host: Host, tmp_path: Path
) -> None:
    playbook = tmp_path / "look.yml"
    command = f"{sys.executable} {TREE}/module_utils/look.py"
    tasks = [
        {"shell": f"{command} {to}:{PORT}; ls /sys/class/net", "delegate_to": "localhost"}
        for to in ("127.0.0.1", TWIN)
    ]
    variables = {"ansible_remote_tmp": str(tmp_path)}
    play = {"hosts": "one", "gather_facts": False, "tasks": tasks, "vars": variables}
    playbook.write_text(json.dumps([play]))
    host.asked.clear()
    log = alone.ansible(playbook).log
    assert not host.asked, log.read_text()


#: plays the host: a network, and a /run and an /etc/hosts, of its own
STAGE = f"""
set -e
ip link set lo up
ip address add {TWIN}/32 dev lo
ip address add {WORLD}/32 dev lo
mount -t tmpfs -o mode=1777 tmpfs /run
mkdir -m 1777 /run/dbus
cat /etc/hosts > /run/hosts
echo {WORLD} {NAME} >> /run/hosts
mount --bind /run/hosts /etc/hosts
exec "$@"
"""


@pytest.mark.skipif(_STAGE in os.environ or os.geteuid() != 0, reason="makes the others' host")
@pytest.mark.parametrize("user", ["root", "ordinary user"])
def test_all_ways_out(user: str) -> None:
    if user != "root" and (problems := privilege.user_namespace_problems()):
        pytest.skip("; ".join(map(str, problems)))
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__]
    stage = ["unshare", "--net", "--mount", "--propagation", "private", "sh", "-c", STAGE, "sh"]
    mark = str(10**8 + secrets.randbelow(10**8))
    with tempfile.TemporaryDirectory(prefix="stage-") as home:
        if user != "root":
            argv = as_user(argv, home=Path(home))
        done = subprocess.run(
            [*stage, *argv],
            cwd=REPOSITORY,
            env={**os.environ, _STAGE: mark, "CARTHAGE_STATE": home},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
    assert " passed" in done.stdout, done.stdout + done.stderr
    assert done.returncode == 0, done.stdout + done.stderr
    deadline = time.monotonic() + 20
    while is_running(mark):  # it ends with the layout
        assert time.monotonic() < deadline
        time.sleep(0.02)
