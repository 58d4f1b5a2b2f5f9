"""Machines of the netns target, for real: isolation, commands, files, sockets, power."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import tempfile
import threading
import time
from pathlib import Path

import pytest

from pytest_carthage import Layout, Limits, Machine, Network, command, file, log, port
from pytest_carthage.errors import (
    CarthageError,
    CommandError,
    CreationError,
    FabricError,
    LayoutError,
    TimeLimitError,
)
from pytest_carthage.portal import Portal
from pytest_carthage.providers.netns import NetnsProvider
from pytest_carthage.providers.netns.provider import NetnsMachine
from tests.support.host import netns_lacks
from tests.support.layouts import building

from .conftest import Build

SERVE = (
    "import http.server as h; h.HTTPServer(('', 8080), h.SimpleHTTPRequestHandler).serve_forever()"
)


class Pair(Layout):
    lan = Network("10.0.0.0/24")
    a = Machine(links={"eth0": lan.at(".1")}, env={"COLOUR": "green"})
    b = Machine(links={"eth0": lan.at(".2")})


@pytest.fixture
def pair(build: Build) -> Layout:
    return build(Pair)


def test_machine_has_its_own_name_processes_and_address(pair: Layout) -> None:
    a = pair["a"]
    assert a.run("hostname").lines == ["a"]
    seen = a.observe()
    assert [row["pid"] for row in seen["processes"]] == [1]
    addresses = {row["interface"]: row["address"] for row in seen["addresses"] if row["address"]}
    assert "10.0.0.1/24" in {row["address"] for row in seen["addresses"]}
    assert set(addresses) == {"lo", "eth0"}
    assert a.address("lan") == "10.0.0.1"
    with pytest.raises(LookupError, match="no address in network 'wan'"):
        a.address("wan")


def test_machine_writes_stay_in_the_machine(pair: Layout) -> None:
    a, b = pair["a"], pair["b"]
    for folder in ("/etc", "/var/lib", "/run", "/tmp", "/srv", "/root"):
        path = f"{folder}/carthage-was-here"
        a.write_text(path, "mine\n")
        assert a.read_text(path) == "mine\n"
        assert not Path(path).exists()
        with pytest.raises(FileNotFoundError):
            b.read_text(path)


def test_machine_cannot_write_to_the_rest_of_the_host(pair: Layout) -> None:
    with pytest.raises(OSError, match="Read-only file system"):
        pair["a"].write_text("/usr/bin/carthage-was-here", "")


def test_machine_finds_nothing_of_runs(portal: Portal, monkeypatch: pytest.MonkeyPatch) -> None:
    if problems := netns_lacks():
        pytest.skip("; ".join(map(str, problems)))
    # elsewhere than in /tmp, where a machine finds nothing anyway
    with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="carthage-test-") as state:
        monkeypatch.setenv("CARTHAGE_STATE", state)
        with building(portal, {"netns": NetnsProvider}) as build:
            a = build(Pair)["a"]
            assert list(Path(state, "runs").iterdir())
            assert a.run(f"ls -A {state}/runs").stdout == ""


def test_machine_does_not_learn_what_its_starter_knows(
    portal: Portal, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if problems := netns_lacks():
        pytest.skip("; ".join(map(str, problems)))
    monkeypatch.setenv("CARTHAGE_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("TOKEN_OF_A_TEST", "secret")
    with building(portal, {"netns": NetnsProvider}) as build:
        a = build(Pair)["a"]
        assert "secret" not in a.run("env").stdout
        for name in ("environ", "mem", "maps", "auxv"):
            done = a.run(["head", "-c1", f"/proc/1/{name}"], check=False)
            assert "ermission denied" in done.stderr, name
        a.run("echo told >> /proc/1/fd/1")
        assert "told" in a.logs()
        for name in ("exe", "root", "ns/mnt"):
            assert not a.run(["readlink", f"/proc/1/{name}"], check=False).ok, name
        assert a.run("tr '\\0' ' ' < /proc/1/cmdline").stdout.strip() == "carthage-agent"


def test_machine_sees_no_link_of_the_host(pair: Layout) -> None:
    inside = set(pair["a"].run("ls /sys/class/net").lines)
    assert {"lo", "eth0"} <= inside
    host = {name for _, name in socket.if_nameindex()}
    assert not {name for name in host if name.startswith(("cg", "br-", "p-"))}
    assert "default" not in str(pair["a"].observe()["routes"])


def test_machines_reach_each_other_by_name_at_once(pair: Layout) -> None:
    b = pair["b"]
    server = b.socket()
    server.bind(("10.0.0.2", 7000))
    server.listen()
    begin = time.monotonic()
    with pair["a"].connect(7000, "b", timeout_s=5) as near, server:
        far, peer = server.accept()
        assert peer[0] == "10.0.0.1"
        with far:
            near.sendall(b"hello")
            assert far.recv(5) == b"hello"
    # 1 to 2 s here would mean that the links were set up in the wrong order
    assert time.monotonic() - begin < 0.9


def test_run_gives_status_output_and_lines(pair: Layout) -> None:
    a = pair["a"]
    result = a.run("echo one; echo two; echo err >&2; exit 3", check=False)
    assert (result.status, result.lines, result.stderr, result.ok) == (
        3,
        ["one", "two"],
        "err\n",
        False,
    )
    assert a.run(["printf", "%s|", "a b", "*"]).stdout == "a b|*|"
    assert a.run("cat; echo $COLOUR $MORE", input="in ", env={"MORE": "x"}).stdout == "in green x\n"
    assert a.run("pwd", cwd="/var").stdout == "/var\n"
    assert a.commands[-1].command == "pwd"


def test_run_failed_command_says_who_what_and_its_last_lines(pair: Layout) -> None:
    with pytest.raises(
        CommandError,
        match=r"machine 'a' of layout 'Pair': 'echo no; false' exited with status 1.*\n  no",
    ):
        pair["a"].run("echo no; false")
    with pytest.raises(CommandError, match="exited with status 127"):
        pair["a"].run(["/no/such/program"])


def test_run_big_output_and_input_arrive_whole(pair: Layout) -> None:
    data = os.urandom(1 << 20).hex()
    assert pair["a"].run("cat", input=data).stdout == data


def test_run_time_limit_kills_and_shows_output(pair: Layout) -> None:
    a = pair["a"]
    with pytest.raises(
        TimeLimitError, match=r"did not end in 0.3 s and was killed; output so far:\n  begun"
    ):
        a.run("echo begun; sleep 60 & sleep 60", timeout_s=0.3)
    # who is killed is there until the kernel has come to it
    a.run("while grep -qsx sleep /proc/[0-9]*/comm; do :; done", timeout_s=20)


def test_run_daemon_that_keeps_the_output_open_does_not_hang(pair: Layout) -> None:
    begin = time.monotonic()
    assert pair["a"].run("setsid sleep 30 & echo started").stdout == "started\n"
    assert time.monotonic() - begin < 5


def test_run_daemon_that_keeps_printing_does_not_hang(pair: Layout) -> None:
    a = pair["a"]
    begin = time.monotonic()
    chatter = "while :; do echo more; sleep 0.01; done"
    assert a.run(f"sh -c '{chatter}' & echo started").lines[0] == "started"
    assert len(a.run("yes & sleep 0.01").stdout) < 1 << 28
    assert time.monotonic() - begin < 10


def test_run_takes_paths_and_refuses_an_empty_sequence(pair: Layout) -> None:
    a = pair["a"]
    assert a.run(["ls", "-d", Path("/etc")]).lines == ["/etc"]
    with pytest.raises(ValueError, match="machine 'a' of layout 'Pair': an empty sequence"):
        a.run([])


def test_run_in_a_folder_that_is_not_there_blames_the_folder(pair: Layout) -> None:
    with pytest.raises(FabricError, match="no folder '/nope' to run a command in"):
        pair["a"].run("true", cwd="/nope")


class Mistyped(Layout):
    lan = Network("10.0.0.0/24")
    a = Machine(links={"eth0": lan.at(".1")}, command="/no/such/daemon")


def test_command_that_fails_at_once_fails_the_machine(build: Build) -> None:
    with pytest.raises(
        CreationError,
        match=r"machine 'a' of layout 'Mistyped': its main process ended at once with status 127"
        r"\n  it printed last:\n  /bin/sh: 1: /no/such/daemon: not found",
    ):
        build(Mistyped)


def test_run_unknown_user_names_those_that_exist(pair: Layout) -> None:
    with pytest.raises(FabricError, match="no user 'ghost' in /etc/passwd; there are: root"):
        pair["a"].run("true", user="ghost")


def test_machine_cannot_change_settings_of_the_host(pair: Layout) -> None:
    a = pair["a"]
    a.run("echo 1 > /proc/sys/net/ipv4/ip_forward")
    setting = "/proc/sys/vm/swappiness"
    result = a.run(f"cat {setting} > /tmp/same && cat /tmp/same > {setting}", check=False)
    assert not result.ok


@pytest.mark.usefixtures("as_root")
def test_run_as_another_user(pair: Layout) -> None:
    result = pair["a"].run("id -un; id -gn; echo $HOME", user="nobody")
    assert result.lines[:2] == ["nobody", "nogroup"]


def test_run_many_at_once_from_another_event_loop(pair: Layout) -> None:
    async def many() -> list[str]:
        a = pair["a"].aio
        results = await asyncio.gather(*(a.run(f"sleep 0.2; echo {n}") for n in range(20)))
        return [result.stdout.strip() for result in results]

    begin = time.monotonic()
    assert asyncio.run(many()) == [str(n) for n in range(20)]
    assert time.monotonic() - begin < 3


def test_sync_call_on_the_core_loop_is_refused_not_a_deadlock(pair: Layout, portal: Portal) -> None:
    async def wrong() -> None:
        pair["a"].run("true")

    with pytest.raises(RuntimeError, match=r"^run was called on .* use .aio and await"):
        portal.call(wrong)


def test_put_and_get_files_and_folders(pair: Layout, tmp_path: Path) -> None:
    a = pair["a"]
    tree = tmp_path / "tree"
    (tree / "deep").mkdir(parents=True)
    (tree / "deep" / "file.bin").write_bytes(bytes(range(256)) * 1000)
    (tree / "run.sh").write_text("#!/bin/sh\necho ran\n")
    (tree / "run.sh").chmod(0o755)
    a.put(tree, "/srv/tree")
    assert a.run("/srv/tree/run.sh").stdout == "ran\n"
    back = a.get("/srv/tree/deep/file.bin", tmp_path)
    assert back.read_bytes() == bytes(range(256)) * 1000
    a.put(tree / "run.sh", "/srv/other/", mode=0o600)
    assert a.run("stat -c %a /srv/other/run.sh").stdout == "600\n"
    with pytest.raises(FileNotFoundError):
        a.put(tmp_path / "nothing", "/srv/x")
    with pytest.raises(FileNotFoundError, match="/srv/none"):
        a.get("/srv/none", tmp_path)


def test_put_keeps_links_and_permissions_of_a_folder(pair: Layout, tmp_path: Path) -> None:
    a = pair["a"]
    tree = tmp_path / "tree"
    (tree / "deep").mkdir(parents=True)
    (tree / "deep" / "file").write_text("content")
    (tree / "deep").chmod(0o700)
    (tree / "folder-link").symlink_to("deep")
    (tree / "broken").symlink_to("nowhere")
    for _ in range(2):
        a.put(tree, "/srv/tree")
    assert a.read_text("/srv/tree/folder-link/file") == "content"
    assert a.run("readlink broken; stat -c %a deep", cwd="/srv/tree").lines == ["nowhere", "700"]


def test_put_and_get_refuse_what_they_cannot_copy(pair: Layout, tmp_path: Path) -> None:
    a = pair["a"]
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match=r"machine 'a' of layout 'Pair': put takes files and fold"):
        a.put(tmp_path / "pipe", "/srv/pipe")
    with pytest.raises(IsADirectoryError, match=r"get takes a file, and this is a folder: '/etc'"):
        a.get("/etc", tmp_path / "etc")
    assert not (tmp_path / "etc").exists()
    a.run("mkfifo /run/pipe")
    with pytest.raises(OSError, match=r"this is a pipe, and no file to be read as a whole"):
        a.read_text("/run/pipe")  # nobody writes: neither this nor the machine hangs
    assert a.run("true", timeout_s=5).ok


def test_wait_for_conditions_and_what_was_seen_last(pair: Layout) -> None:
    a = pair["a"]
    threading.Timer(0.3, lambda: a.write_text("/run/flag", "")).start()
    a.wait_for(file("/run/flag"), timeout_s=10)
    a.wait_for(command("test -e /run/flag"), timeout_s=10)
    with pytest.raises(
        TimeLimitError, match=r"no port 81 after 0.1 s \(last: listening on nothing\)"
    ):
        a.wait_for(port(81), timeout_s=0.1)
    with pytest.raises(TimeLimitError, match=r"last: status 1: why"):
        a.wait_for(command("echo why; exit 1"), timeout_s=1)


class Failing(Layout):
    a = Machine(command="echo why; sleep 0.2; exit 3", wait_for=port(80), ready_timeout_s=0.5)


def test_machine_that_is_never_ready_tells_what_it_printed(build: Build) -> None:
    with pytest.raises(CreationError) as caught:
        build(Failing)
    assert "it printed last:\n  why\n  main process ended with status 3" in str(caught.value)


def test_machine_that_is_slow_has_longer_to_be_ready(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Never(Layout):
        a = Machine(wait_for=port(80), ready_timeout_s=0.2)

    with pytest.raises(CreationError, match=r"no port 80 after 0\.[12]"):
        build(Never)
    # as one whose processors are emulated
    monkeypatch.setattr(NetnsMachine, "patience", 4, raising=False)
    with pytest.raises(CreationError, match=r"no port 80 after 0\.[78]"):
        build(Never)


class Served(Layout):
    lan = Network("192.0.2.0/24")
    web = Machine(
        links={"eth0": lan.at(".1")},
        command=["python3", "-u", "-c", "print('hello log')\n" + SERVE],
        wait_for=[port(8080), log("hello log")],
    )


def test_machine_command_readiness_forward_and_power(build: Build) -> None:
    web = build(Served)["web"]
    assert "hello log" in web.logs()

    def fetch(number: int) -> bytes:
        with socket.create_connection(("127.0.0.1", number), timeout=5) as client:
            client.sendall(b"GET / HTTP/1.0\r\n\r\n")
            return client.recv(15)

    with web.forward(8080) as number:
        assert fetch(number) == b"HTTP/1.0 200 OK"
    with pytest.raises(OSError, match="refused"):
        fetch(number)
    web.stop()
    with pytest.raises(FabricError, match=r"machine 'web' .*: it is stopped; try: start\(\)"):
        web.run("true")
    web.start()
    with web.connect(8080) as client:
        client.sendall(b"GET / HTTP/1.0\r\n\r\n")
        assert client.recv(15) == b"HTTP/1.0 200 OK"
    web.restart()
    assert web.run("ls /sys/class/net/eth0/address").ok
    with pytest.raises(
        ConnectionRefusedError, match=r"machine 'web' of layout 'Served': 127.0.0.1:9"
    ):
        web.connect(9)


class Twins(Layout):
    west = Network("10.0.0.0/24")
    east = Network("10.0.0.0/24")
    a = Machine(links={"eth0": west.at(".1")})
    b = Machine(links={"eth0": west.at(".2")})
    c = Machine(links={"eth0": east.at(".2")})


def test_names_mean_the_machines_of_ones_own_network(build: Build) -> None:
    twins = build(Twins)

    def name_of_two(machine: str) -> str:
        return twins[machine].run("getent hosts 10.0.0.2").stdout.split()[1]

    assert [name_of_two(name) for name in "abc"] == ["b", "b", "c"]
    twins.add(name="d", machine=Machine(links={"eth0": Twins.east.at(".3")}))
    assert [name_of_two(name) for name in "abcd"] == ["b", "b", "c", "c"]
    twins["a"].restart()
    assert name_of_two("a") == "b"
    with pytest.raises(OSError, match="no host 'c'"):
        twins["a"].ping("c")


class Silent(Layout):
    lan = Network("192.0.2.0/24")
    web = Machine(
        links={"eth0": lan.at(".1")},
        command=[
            "python3",
            "-u",
            "-c",
            "import socket, time\n"
            "listener = socket.create_server(('', 80))\n"
            "kept = [listener.accept()]\n"
            "print('somebody came', flush=True)\n"
            "time.sleep(600)",
        ],
        wait_for=port(80),
    )


def test_forwarded_connection_is_not_forgotten_while_the_far_end_is_silent(
    build: Build, caplog: pytest.LogCaptureFixture
) -> None:
    web = build(Silent)["web"]

    async def collect_garbage() -> int:
        await asyncio.sleep(0.05)  # the near end's hanging up has arrived
        return gc.collect()

    with web.forward(80) as number:
        socket.create_connection(("127.0.0.1", number), timeout=5).close()
        web.wait_for(log("somebody came"))
        web.aio.portal.call(collect_garbage)
    web.aio.portal.call(collect_garbage)
    assert [record.getMessage() for record in caplog.records] == []


class Never(Layout):
    lan = Network("10.0.0.0/24")
    good = Machine(links={"eth0": lan.at(".1")})
    bad = Machine(links={"eth0": lan.at(".2")}, wait_for=[port(80)], ready_timeout_s=0.2)


def test_stopped_machine_does_not_answer_until_it_is_started(pair: Layout) -> None:
    a, b = pair["a"], pair["b"]
    assert b.ping("a") < 5
    a.stop()
    with pytest.raises(TimeoutError):
        b.ping("a", timeout_s=0.5)
    a.start()
    assert b.ping("a") < 5


def test_machine_over_the_hosts_files_keeps_what_it_wrote(pair: Layout) -> None:
    a = pair["a"]
    a.run(
        "echo 10.9.9.9 printer >> /etc/hosts; mkdir /srv/it; echo x > /srv/it/kept; rm /etc/issue"
    )
    a.run("echo x > /tmp/kept; chmod 700 /srv; echo x > /run/gone")
    with a.crash():
        pass
    a.restart()
    assert a.run(
        "cat /srv/it/kept /tmp/kept; stat -c %a /srv /tmp; ls /run/gone", check=False
    ).lines == (["x", "x", "700", "1777"])
    assert not a.exists("/etc/issue")
    assert a.run("getent hosts printer b").lines == ["10.9.9.9        printer", "10.0.0.2        b"]
    assert a.run("ls -d /run/carthage*", check=False).stdout == ""  # nothing of the fabric's


def test_machine_with_dots_in_its_name_is_one_as_any_other(build: Build) -> None:
    lan = Network("10.0.0.0/24")
    web = Machine(links={"eth0": lan.at(".1")}, command="exec sleep 1000")
    layout = build(Layout.of("Production", {"lan": lan, "web1.prod.example": web}))
    added = layout.add(Machine(links={"eth0": lan.at(".2")}), name="db1.prod.example")
    assert layout["db1.prod.example"] is added
    assert added.ping("web1.prod.example") < 5
    assert layout["web1.prod.example"].run("hostname").lines == ["web1.prod.example"]
    assert getattr(layout, "web1.prod.example") is layout["web1.prod.example"]
    with added.link_to("web1.prod.example").capture("icmp") as packets:
        added.ping("web1.prod.example")
    assert {packet.source for packet in packets} == {"web1.prod.example", "db1.prod.example"}
    layout["web1.prod.example"].restart()
    layout.remove("db1.prod.example")


def test_machine_that_was_removed_leaves_nothing_to_its_successor(pair: Layout) -> None:
    machine = pair.add(Machine(), name="late")
    machine.write_text("/srv/note", "x")
    pair.remove("late")
    assert not pair.add(Machine(), name="late").exists("/srv/note")


def test_machine_never_ready_says_so_and_everything_is_destroyed(build: Build, state: Path) -> None:
    with pytest.raises(
        CreationError, match=r"machine 'bad' of layout 'Never': no port 80 after 0\.\d+ s"
    ):
        build(Never)
    assert not list((state / "runs").glob("*/envs/*"))


def test_added_machine_is_reached_by_name_and_removed(pair: Layout) -> None:
    added = pair.add(name="till-7", machine=Machine(links={"eth0": Pair.lan.at("auto")}))
    assert added.address() == "10.0.0.3"
    assert "10.0.0.3 till-7" in pair["a"].read_text("/etc/hosts")
    assert added.run("hostname").stdout == "till-7\n"
    with pytest.raises(LayoutError, match="till-7"):
        pair.add(name="till-7", machine=Machine(links={"eth0": Pair.lan.at("auto")}))
    pair.remove("till-7")
    assert "till-7" not in pair["a"].read_text("/etc/hosts")
    with pytest.raises(KeyError):
        pair["till-7"]
    pair.add(name="till-7", machine=Machine(links={"eth0": Pair.lan.at("auto")}))


class Routed(Layout):
    inner = Network("10.0.0.0/24")
    outer = Network("192.0.2.0/24")
    gw = Machine(links={"in0": inner.at(".1"), "out0": outer.at(".1")}, masquerade=("out0",))
    client = Machine(links={"eth0": inner.at(".10", gateway=".1")})
    server = Machine(links={"eth0": outer.at(".80")})


def test_router_hides_the_inner_network_behind_its_address(build: Build) -> None:
    environment = build(Routed)
    server = environment["server"].socket()
    server.bind(("192.0.2.80", 80))
    server.listen()
    with environment["client"].connect(80, "server"), server:
        far, peer = server.accept()
        far.close()
    assert peer[0] == "192.0.2.1"  # without masquerading the server could not even answer


class Limited(Layout):
    lan = Network("10.0.0.0/24")
    small = Machine(links={"eth0": lan.at(".1")}, limits=Limits(memory_mib=64, cpus=0.5, pids=20))


@pytest.mark.usefixtures("as_root")
def test_limits_hold_for_what_runs_in_the_machine(build: Build) -> None:
    small = build(Limited)["small"]
    too_much = "bytearray(200 << 20)"
    assert small.run(["python3", "-c", too_much], check=False).status in (-9, 1)
    assert small.run(["python3", "-c", "bytearray(10 << 20)"]).ok
    forks = "for i in $(seq 40); do sleep 5 & done; wait"
    assert "fork" in small.run(forks, check=False, timeout_s=20).stderr.lower()


def test_two_copies_of_one_layout_do_not_meet(build: Build) -> None:
    one, two = build(Pair), build(Pair)
    one["a"].write_text("/tmp/which", "one")
    two["a"].write_text("/tmp/which", "two")
    listener = two["b"].socket()
    listener.bind(("10.0.0.2", 7000))
    listener.listen()
    told = r"machine 'a' of layout '\w+': 10.0.0.2:7000: Connection refused$"
    with listener, pytest.raises(ConnectionRefusedError, match=told):
        one["a"].connect(7000, "b", timeout_s=5)
    assert one["a"].read_text("/tmp/which") == "one"


def test_environment_dies_within_seconds_of_its_fabric(pair: Layout) -> None:
    status = pair["a"].aio.planned
    assert status.name == "a"
    fabric = next(
        int(entry.name)
        for entry in Path("/proc").iterdir()
        if entry.name.isdecimal() and _is_fabric_of(entry, pair.folder)
    )
    os.kill(fabric, signal.SIGKILL)
    with pytest.raises(CarthageError):
        pair["a"].run("sleep 5")


def _is_fabric_of(entry: Path, folder: Path) -> bool:
    try:
        if (entry / "comm").read_text().strip() != "carthage-fabric":
            return False
        return any(str(fd.readlink()) == f"{folder}/fabric.log" for fd in (entry / "fd").iterdir())
    except OSError:
        return False
