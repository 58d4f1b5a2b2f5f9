"""A deputy whose machine is this host, behind no prefix at all: only the test's folder is used."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import pwd
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pytest_carthage.channels.agent import Interrupted, execute
from pytest_carthage.errors import FabricError
from pytest_carthage.fabric.wire import frames
from pytest_carthage.fabric.wire.channel import AsyncChannel
from tests.channels.alone import ME
from tests.channels.conftest import Bench, settled


def test_command_gets_input_environment_and_folder(by_command: Bench, tmp_path: Path) -> None:
    script = 'cat; echo "$SHOP $A_PREFIX $MORE $USER"; pwd; echo oops >&2; exit 3'
    status, out, err = by_command.run(
        "sh", "-c", script, cwd=str(tmp_path), env={"MORE": "a b"}, input=b"in\n"
    )
    assert status == 3
    assert out.decode() == f"in\n1 yes a b {ME}\n{tmp_path}\n"
    assert err == b"oops\n"


def test_command_without_a_folder_is_run_in_the_home(bench: Bench) -> None:
    assert bench.run("pwd")[1].decode().strip() == pwd.getpwuid(os.getuid()).pw_dir


def test_command_takes_its_arguments_as_they_are(bench: Bench) -> None:
    assert bench.run("printf", "%s|", "a b", "$HOME", "'")[1] == b"a b|$HOME|'|"


def test_command_of_nobody_and_missing_program_are_told(by_command: Bench) -> None:
    with pytest.raises(FabricError, match="machine 'web': no user 'nobody-here' in this machine"):
        by_command.run("true", user="nobody-here")
    status, _, err = by_command.run("no-such-program")
    assert (status, b"no-such-program" in err) == (127, True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become somebody else")
def test_command_is_run_as_another_user(by_command: Bench) -> None:
    assert by_command.run("id", "-un", user="nobody")[1] == b"nobody\n"
    assert by_command.run("sh", "-c", "echo $USER", user="65534")[1] == b"65534\n"


def test_command_beyond_its_time_is_killed_with_all_that_it_started(
    bench: Bench, tmp_path: Path
) -> None:
    script = f"echo begun; sleep 60 & echo $! > {tmp_path}/pid; wait"
    with pytest.raises(Interrupted) as caught:
        bench.run("sh", "-c", script, timeout_s=1)
    assert caught.value.stdout == b"begun\n"
    pid = int((tmp_path / "pid").read_text())
    deadline = time.monotonic() + 5
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
            break
        time.sleep(0.01)
    else:
        assert not Path(f"/proc/{pid}").exists()


def test_commands_run_side_by_side(bench: Bench) -> None:
    async def go() -> list[Any]:
        opened = await bench.channel()
        plain: dict[str, Any] = {"cwd": None, "env": {}, "input": None, "timeout_s": 20}
        begin = time.monotonic()
        try:
            calls = [execute(opened, ["sleep", "0.5"], user=ME, **plain) for _ in range(4)]
            await asyncio.gather(*calls)
        finally:
            opened.close()
        return [time.monotonic() - begin]

    assert bench.portal.call(go)[0] < 1.9


def test_files_are_written_and_read(bench: Bench, tmp_path: Path) -> None:
    files = bench.files()
    path = str(tmp_path / "a b")
    files.write_text(path, "hello", mode=0o640)
    assert Path(path).read_text() == "hello"
    assert stat.S_IMODE(Path(path).stat().st_mode) == 0o640
    assert files.read_text(path) == "hello"
    files.write_text(path, "shorter"[:3])
    assert Path(path).read_text() == "sho"


def test_large_file_passes_whole(bench: Bench, tmp_path: Path) -> None:
    data = os.urandom(3 << 20)
    (tmp_path / "source").write_bytes(data)
    files = bench.files()
    files.put(tmp_path / "source", str(tmp_path / "there" / "copy"))
    assert (tmp_path / "there" / "copy").read_bytes() == data
    assert files.get(str(tmp_path / "there" / "copy"), tmp_path / "back").read_bytes() == data


def test_folder_with_links_is_put(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "conf" / "sub").mkdir(parents=True, mode=0o750)
    (tmp_path / "conf" / "sub" / "run").write_text("#!/bin/sh\n")
    (tmp_path / "conf" / "sub" / "run").chmod(0o755)
    (tmp_path / "conf" / "now").symlink_to("sub/run")
    bench.files().put(tmp_path / "conf", str(tmp_path / "etc"))
    assert (tmp_path / "etc" / "now").readlink() == Path("sub/run")
    assert stat.S_IMODE((tmp_path / "etc" / "sub" / "run").stat().st_mode) == 0o755


def test_file_changed_in_place_keeps_what_was_not_written(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "hosts").write_text("one two")
    reply, (fd,) = bench.ask("open", path=str(tmp_path / "hosts"), flags=os.O_RDWR)
    assert os.read(fd, 3) == b"one"
    os.pwrite(fd, b"2wo", 4)
    os.close(fd)
    assert (tmp_path / "hosts").read_text() == "one two"  # not yet
    bench.ask("commit", number=reply["commit"])
    assert (tmp_path / "hosts").read_text() == "one 2wo"


def test_copy_that_is_thrown_away_changes_nothing(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("old")
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    reply, (fd,) = bench.ask("open", path=str(tmp_path / "a"), flags=flags)
    os.write(fd, b"new")
    os.close(fd)
    bench.ask("commit", number=reply["commit"], keep=False)
    assert (tmp_path / "a").read_text() == "old"
    with pytest.raises(FabricError, match=f"no copy {reply['commit']}"):
        bench.ask("commit", number=reply["commit"])


@pytest.mark.parametrize(
    ("name", "flags", "number"),
    [
        ("none", os.O_RDONLY, errno.ENOENT),
        ("none", os.O_RDWR, errno.ENOENT),
        ("none/file", os.O_WRONLY | os.O_CREAT, errno.ENOENT),
        ("file/below", os.O_RDONLY, errno.ENOTDIR),
        ("file/below", os.O_WRONLY | os.O_CREAT, errno.ENOTDIR),
        ("file", os.O_WRONLY | os.O_CREAT | os.O_EXCL, errno.EEXIST),
        ("folder", os.O_WRONLY | os.O_CREAT, errno.EISDIR),
    ],
)
def test_file_that_cannot_be_opened_is_refused_with_its_number(
    bench: Bench, tmp_path: Path, name: str, flags: int, number: int
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    with pytest.raises(FabricError) as caught:
        bench.ask("open", path=str(tmp_path / name), flags=flags)
    assert caught.value.errno == number, caught.value


def test_folder_is_opened_to_be_looked_at(bench: Bench, tmp_path: Path) -> None:
    _, (fd,) = bench.ask("open", path=str(tmp_path), flags=os.O_RDONLY)
    try:
        assert stat.S_ISDIR(os.fstat(fd).st_mode)
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.listdir(fd)  # noqa: PTH208  a descriptor
    finally:
        os.close(fd)


def test_write_that_fails_is_told_when_it_is_given_back(bench: Bench) -> None:
    with pytest.raises(OSError, match="machine 'web': No space left on device"):
        bench.files().write_text("/dev/full", "x" * 100)


def test_files_are_looked_at_and_changed(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("12345")
    told, _ = bench.ask("stat", path=str(tmp_path / "a"))
    info = (tmp_path / "a").stat()
    assert (told["mode"], told["uid"], told["size"]) == (info.st_mode, info.st_uid, 5)
    assert told["mtime"] == pytest.approx(info.st_mtime, abs=1)
    bench.ask("chmod", path=str(tmp_path / "a"), mode=0o600)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o600
    (tmp_path / "b\nc").touch()
    assert bench.ask("listdir", path=str(tmp_path))[0]["names"] == ["a", "b\nc"]
    with pytest.raises(FabricError, match="Not a directory") as caught:
        bench.ask("listdir", path=str(tmp_path / "a"))
    assert caught.value.errno == errno.ENOTDIR
    bench.ask("mkdirs", path=str(tmp_path / "x" / "y"), mode=0o700)
    assert stat.S_IMODE((tmp_path / "x" / "y").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o755
    with pytest.raises(FabricError) as caught:
        bench.ask("mkdirs", path=str(tmp_path / "a"))
    assert caught.value.errno == errno.EEXIST
    with pytest.raises(FabricError) as caught:
        bench.ask("symlink", path=str(tmp_path / "a"), target="x")
    assert caught.value.errno == errno.EEXIST


@contextlib.contextmanager
def served(answer: Callable[[socket.socket], None]) -> Iterator[int]:
    """A port of the host's loopback that serves one connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            far, _ = listener.accept()
            with far:
                answer(far)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        thread.join(10)
        assert not thread.is_alive()


def test_connection_that_the_far_end_closes_is_told(bench: Bench) -> None:
    with served(lambda far: far.sendall(b"bye")) as port:
        _, (fd,) = bench.ask("connect", host="127.0.0.1", port=port)
        with socket.socket(fileno=fd) as near:
            near.settimeout(10)
            assert near.recv(10) == b"bye"
            assert near.recv(1) == b""


def test_connection_is_carried_both_ways_to_the_end(bench: Bench) -> None:
    data = os.urandom(1 << 20)

    def echo(far: socket.socket) -> None:
        received = b""
        while part := far.recv(1 << 16):
            received += part
        far.sendall(received)

    with served(echo) as port:
        reply, (fd,) = bench.ask("connect", host="127.0.0.1", port=port)
        assert reply["address"] == "127.0.0.1"
        with socket.socket(fileno=fd) as near:
            near.settimeout(20)

            def write() -> None:
                near.sendall(data)
                near.shutdown(socket.SHUT_WR)

            writer = threading.Thread(target=write)
            writer.start()
            received = b""
            while part := near.recv(1 << 16):
                received += part
            writer.join()
        assert received == data


def test_connection_of_a_short_answer_is_not_lost(bench: Bench) -> None:
    for _ in range(3):
        with served(lambda far: far.sendall(b"bye")) as port:
            _, (fd,) = bench.ask("connect", host="localhost", port=port)
            with socket.socket(fileno=fd) as near:
                assert near.recv(10) == b"bye"


def test_connection_outlives_the_channel_on_which_it_was_asked_for(bench: Bench) -> None:
    def answer(far: socket.socket) -> None:
        far.sendall(far.recv(100).upper())

    with served(answer) as port:

        async def connect(opened: AsyncChannel) -> int:
            _, (fd,) = await opened.request("connect", host="127.0.0.1", port=port)
            return fd

        with socket.socket(fileno=bench.talk(connect)) as near:
            near.settimeout(10)
            assert bench.ask("ping")[0]["ok"]  # by now it knows that the other one has left
            near.sendall(b"hello")
            assert near.recv(100) == b"HELLO"


def test_file_that_is_given_back_is_whole_even_if_nobody_waits_for_it(
    bench: Bench, tmp_path: Path
) -> None:
    data = os.urandom(8 << 20)
    path = tmp_path / "file"
    with bench.raw() as client:
        flags = os.O_WRONLY | os.O_CREAT
        frames.send(client, {"id": 2, "op": "open", "path": str(path), "flags": flags})
        reply, (fd,) = frames.receive(client)
        with os.fdopen(fd, "wb") as file:
            file.write(data)
        frames.send(client, {"id": 3, "op": "commit", "number": reply["commit"]})
    assert settled(lambda: path.stat().st_size, len(data)) == len(data)
    assert path.read_bytes() == data


def test_connection_to_nobody_is_refused_as_by_the_kernel(bench: Bench) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(FabricError, match="Connection refused") as caught:
        bench.ask("connect", host="127.0.0.1", port=port)
    assert caught.value.errno == errno.ECONNREFUSED
    with pytest.raises(FabricError, match="no host 'nowhere' in /etc/hosts") as caught:
        bench.ask("connect", host="nowhere", port=port)
    assert caught.value.errno == errno.ENOENT


def test_ports_that_listen_are_listed(bench: Bench) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        row = {"protocol": "tcp", "address": "127.0.0.1", "port": listener.getsockname()[1]}
        assert row in bench.ask("listening")[0]["listening"]
    assert row not in bench.ask("listening")[0]["listening"]


def test_name_is_looked_up_in_the_machine(bench: Bench) -> None:
    assert bench.ask("lookup", host="localhost")[0]["address"] in ("127.0.0.1", "::1")


def test_deputy_says_what_it_can_be_asked_for(by_command: Bench) -> None:
    async def go() -> frozenset[str] | None:
        opened = await by_command.channel()
        opened.close()
        return opened.operations

    operations = by_command.portal.call(go) or frozenset()
    assert {"run", "wait", "kill", "cancel", "open", "commit", "connect"} <= operations
    assert operations.isdisjoint({"socket", "observe", "channel"})
    with pytest.raises(FabricError, match="unknown operation 'socket'"):
        by_command.ask("socket")
    with pytest.raises(FabricError, match=r"gives no terminal, .*; try: the command without one"):
        by_command.ask("run", argv=["sh"], tty=True)
    with pytest.raises(FabricError, match=r"protocol 'udp': .* streams alone; try: protocol='tcp'"):
        by_command.ask("connect", host="127.0.0.1", port=9, protocol="udp")
