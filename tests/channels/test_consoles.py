"""The recorder of serial consoles, whose machines are sockets of the test's."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_carthage.channels.consoles import forget, settle
from pytest_carthage.errors import FabricError
from pytest_carthage.portal import Portal
from tests.channels.conftest import settled
from tests.support.consoles import Recorded


def read(sock: socket.socket, end: bytes) -> bytes:
    """What comes, until it ends with that."""
    data = b""
    while not data.endswith(end):
        piece = sock.recv(65536)
        assert piece, data
        data += piece
    return data


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Recorded]:
    (tmp_path / "logs").mkdir()
    with (
        contextlib.closing(Portal()) as portal,
        contextlib.closing(Recorded(portal, tmp_path)) as one,
    ):
        yield one


def test_what_a_machine_prints_is_in_its_log_with_nobody_attached(bench: Recorded) -> None:
    port = bench.record()
    port.sendall(b"\x1b[0mKernel panic - not syncing\r\n---[ end Kernel panic ]---\r\n")
    port.close()  # as when it dies
    assert bench.log().shows("Kernel panic - not syncing\n---[ end Kernel panic ]---\n")


def test_who_attaches_sees_the_last_lines_and_types(bench: Recorded) -> None:
    port = bench.record()
    port.sendall(b"".join(b"line %d\r\n" % number for number in range(50)) + b"web login: ")
    assert bench.log().shows("web login: ")
    attached = bench.attach(lines=2)
    assert attached.is_connected
    assert read(attached.socket, b": ") == b"line 48\r\nline 49\r\nweb login: "
    attached.socket.sendall(b"root\r")
    assert port.recv(100) == b"root\r"
    port.sendall(b"root\r\n")
    assert read(attached.socket, b"\n") == b"root\r\n"


def test_all_who_are_attached_see_the_same_and_leave_without_hurting(bench: Recorded) -> None:
    port = bench.record()
    first = bench.attach()
    second = bench.attach()
    assert (first.others, second.others) == (0, 1)
    port.sendall(b"one\n")
    assert read(first.socket, b"\n") == read(second.socket, b"\n") == b"one\n"
    first.socket.close()
    port.sendall(b"two\n")
    assert read(second.socket, b"\n") == b"two\n"
    second.socket.sendall(b"typed")
    assert port.recv(100) == b"typed"
    assert settled(lambda: bench.attach().others, 1) == 1


def test_who_is_attached_and_does_not_read_keeps_nobody_waiting(bench: Recorded) -> None:
    port = bench.record()
    sleeper = bench.attach()
    flood = b"".join(b"line %d\n" % number for number in range(400_000))
    begin = time.monotonic()
    port.sendall(flood)
    port.sendall(b"the end\n")
    assert bench.log().shows("the end\n")
    assert time.monotonic() - begin < 30
    data = sleeper.socket.recv(1 << 20)
    assert data.startswith(b"line 0\n")
    while b"bytes are left out here]" not in data:
        port.sendall(b"more\n")
        data += sleeper.socket.recv(1 << 20)


def test_machine_that_takes_nothing_is_not_flooded_by_who_types(bench: Recorded) -> None:
    port = bench.record()
    attached = bench.attach()
    attached.socket.setblocking(False)
    typed = 0
    with contextlib.suppress(BlockingIOError):
        for _ in range(10_000):
            typed += attached.socket.send(b"x" * 1000)
            time.sleep(0.0005)
    assert typed < 2_000_000
    got = b""
    while len(got) < typed:  # nothing of it is lost
        got += port.recv(1 << 16)
    assert got == b"x" * typed


def test_attached_stay_over_a_restart_of_the_machine(bench: Recorded) -> None:
    port = bench.record()
    attached = bench.attach()
    port.sendall(b"down\n")
    port.close()
    assert read(attached.socket, b"\n") == b"down\n"
    assert not settled(lambda: bench.attach().is_connected, False)
    attached.socket.sendall(b"typed at nobody")
    again = bench.connect()
    again.sendall(b"up\n")
    assert read(attached.socket, b"\n") == b"up\n"
    assert bench.log().shows("down\nup\n")


def test_recorder_that_was_killed_is_started_again_and_the_log_goes_on(bench: Recorded) -> None:
    bench.record().sendall(b"before\n")
    assert bench.log().shows("before\n")
    bench.fabric.kill()
    bench.record().sendall(b"after\n")
    assert bench.log().shows("before\nafter\n")
    assert len(bench.fabric.processes) == 2


def test_log_has_all_that_was_printed_once_it_has_settled(bench: Recorded) -> None:
    port = bench.record()
    for number in range(50):
        port.sendall(b"x" * 10_000 + b"%d\n" % number)
        bench.portal.call(settle, bench.folder, "web")
        assert bench.log().path.read_text().endswith(f"x{number}\n")
    port.sendall(b"the end")
    port.close()
    bench.portal.call(settle, bench.folder, "web")
    assert bench.log().path.read_text().endswith("the end")
    bench.portal.call(settle, bench.folder, "nobody")


def test_console_that_is_asked_for_again_stays_what_it_is(bench: Recorded) -> None:
    port = bench.record()
    attached = bench.attach()
    path, log = bench.folder / "web.sock", bench.log().path
    bench.portal.call(bench.consoles.record, "web", path, log)
    port.sendall(b"still here\n")
    assert read(attached.socket, b"\n") == b"still here\n"
    assert bench.attach().others == 1


def test_one_recorder_has_all_machines_of_an_environment(bench: Recorded) -> None:
    for name in ("web", "db"):
        bench.record(name).sendall(name.encode())
    assert bench.log("web").shows("web")
    assert bench.log("db").shows("db")
    assert len(bench.fabric.processes) == 1


def test_machine_that_is_gone_hangs_up_and_has_no_console(bench: Recorded) -> None:
    bench.record()
    attached = bench.attach()
    bench.portal.call(forget, bench.folder, "web")
    assert attached.socket.recv(1) == b""
    assert not (bench.folder / "web.sock").exists()
    with pytest.raises(FabricError, match=r"'web' has no serial console here; those.* none"):
        bench.attach()
    bench.portal.call(forget, bench.folder, "web")  # again is no error


def test_environment_without_consoles_says_so(bench: Recorded) -> None:
    with pytest.raises(FabricError, match="machine 'web' has no serial console"):
        bench.attach()
    bench.portal.call(forget, bench.folder, "web")
