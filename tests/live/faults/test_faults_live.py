"""Faults of links, machines and between machines, with real packets on the netns target."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import random
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pytest_carthage import Layout, Machine, Network, command, file
from pytest_carthage.errors import FabricError, FaultError
from pytest_carthage.events import Recorder
from pytest_carthage.fabric.host import privilege
from pytest_carthage.fabric.wire import client
from pytest_carthage.live.faults.disturbance import AsyncDisturbance
from pytest_carthage.live.faults.registry import Fault, Faults
from pytest_carthage.live.machines.link import AsyncLink
from pytest_carthage.live.machines.machine import MachineHandle
from pytest_carthage.planning import make_plan
from pytest_carthage.planning.plan import PlannedMachine
from tests.live.conftest import Build
from tests.support.unprivileged import as_user

pytestmark = pytest.mark.real


class Pair(Layout):
    lan = Network("10.0.0.0/24")
    a = Machine(links={"eth0": lan.at(".1")})
    b = Machine(links={"eth0": lan.at(".2")})


@pytest.fixture
def pair(build: Build) -> Layout:
    return build(Pair)


def rtts(machine: MachineHandle, host: str, count: int) -> list[float]:
    return [machine.ping(host) for _ in range(count)]


def datagrams(
    source: MachineHandle, target: MachineHandle, count: int, *, pause_s: float = 0.0
) -> list[int]:
    """Numbers of the datagrams that arrive, in the order of their arrival."""
    with (
        source.socket(type=socket.SOCK_DGRAM) as near,
        target.socket(type=socket.SOCK_DGRAM) as far,
    ):
        far.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        far.bind((target.address(), 0))
        near.connect(far.getsockname())
        found: list[int] = []
        far.settimeout(0.4)

        def collect() -> None:
            with contextlib.suppress(TimeoutError):
                while True:
                    found.append(int.from_bytes(far.recv(2000)[:4], "big"))

        thread = threading.Thread(target=collect)
        thread.start()
        for number in range(count):
            near.send(number.to_bytes(4, "big") + bytes(100))
            if pause_s:
                time.sleep(pause_s)
        thread.join()
        return found


def transfer(source: MachineHandle, target: MachineHandle, size: int) -> float:
    """Send so many bytes over TCP, check them, and return the seconds that it took."""
    data = random.Random(1).randbytes(min(size, 1 << 20))
    rounds = -(-size // len(data))
    with target.socket() as server:
        server.bind((target.address(), 0))
        server.listen()
        digest = hashlib.sha256()

        def serve() -> None:
            peer, _ = server.accept()
            with peer:
                while part := peer.recv(1 << 18):
                    digest.update(part)
                peer.send(b"!")

        thread = threading.Thread(target=serve)
        thread.start()
        begin = time.monotonic()
        with source.connect(server.getsockname()[1], target.address()) as sock:
            sock.settimeout(60)
            for _ in range(rounds):
                sock.sendall(data)
            sock.shutdown(socket.SHUT_WR)
            assert sock.recv(1) == b"!"
        taken = time.monotonic() - begin
        thread.join()
    assert digest.digest() == hashlib.sha256(data * rounds).digest()
    return taken


@pytest.fixture(params=["kernel", "relay"])
def also(request: pytest.FixtureRequest) -> dict[str, float]:
    """What makes an impairment take the one or the other way, and else changes next to nothing."""
    return {} if request.param == "kernel" else {"delay_ms": 0.2}


def test_impaired_link_loses_as_many_packets_as_was_asked(
    pair: Layout, also: dict[str, float]
) -> None:
    a, b = pair["a"], pair["b"]
    a.ping("b")  # they know each other's hardware addresses
    fault = b.link("eth0").impair(loss_pct=30, direction="to", **also)
    lost = 1 - len(datagrams(a, b, 1000, pause_s=0.0002)) / 1000
    assert 0.22 < lost < 0.38
    assert len(datagrams(b, a, 200, pause_s=0.0002)) == 200
    fault.heal()
    assert datagrams(a, b, 300, pause_s=0.0002) == list(range(300))


def test_impaired_link_loses_what_comes_from_the_machine(
    pair: Layout, also: dict[str, float]
) -> None:
    a, b = pair["a"], pair["b"]
    a.ping("b")
    with b.link("eth0").impair(loss_pct=100, direction="from", **also):
        assert datagrams(b, a, 20) == []
        assert len(datagrams(a, b, 20)) == 20
    assert len(datagrams(b, a, 20)) == 20


def test_impaired_link_carries_no_more_than_its_rate(pair: Layout, also: dict[str, float]) -> None:
    a, b = pair["a"], pair["b"]
    size = 2_000_000
    for direction in ("to", "from"):
        with b.link("eth0").impair(rate_mbit=16, direction=direction, **also):
            there, back = transfer(a, b, size), transfer(b, a, size)
        slow, fast = (there, back) if direction == "to" else (back, there)
        assert 0.85 < slow < 4  # 16 Mbit are 1 s
        assert fast < slow / 2


def test_impaired_link_delays(pair: Layout) -> None:
    a, b = pair["a"], pair["b"]
    with b.link("eth0").impair(delay_ms=20):
        assert 0.040 <= min(rtts(a, "b", 5)) < 0.080
    with b.link("eth0").impair(delay_ms=30, direction="from"):
        assert 0.030 <= min(rtts(a, "b", 5)) < 0.060
    assert min(rtts(a, "b", 5)) < 0.01


def test_impaired_link_jitter_spreads_what_it_delays(pair: Layout) -> None:
    a, b = pair["a"], pair["b"]
    with b.link("eth0").impair(delay_ms=20, jitter_ms=15, direction="to"):
        seen = rtts(a, "b", 40)
        assert min(seen) < 0.014
        assert max(seen) > 0.026
        assert datagrams(a, b, 100) != sorted(datagrams(a, b, 100))


def test_impaired_link_duplicates(pair: Layout) -> None:
    a, b = pair["a"], pair["b"]
    with b.link("eth0").impair(duplicate_pct=50, direction="to"):
        found = datagrams(a, b, 400, pause_s=0.0002)
    assert set(found) == set(range(400))
    assert 520 < len(found) < 680


def test_corrupted_packets_are_dropped_by_their_receiver_and_no_byte_is_wrong(
    pair: Layout,
) -> None:
    a, b = pair["a"], pair["b"]
    with b.link("eth0").impair(corrupt_pct=40, direction="to"):
        found = datagrams(a, b, 400, pause_s=0.0002)
        assert 180 < len(found) < 300
        errors = b.run("cat /proc/net/snmp").stdout
    fields = [line.split() for line in errors.splitlines() if line.startswith("Udp:")]
    assert int(dict(zip(*fields, strict=True))["InCsumErrors"]) > 50
    with b.link("eth0").impair(corrupt_pct=2):
        transfer(a, b, 3_000_000)
        transfer(b, a, 3_000_000)


def test_a_large_transfer_passes_the_relay_unharmed(pair: Layout) -> None:
    a, b = pair["a"], pair["b"]
    with b.link("eth0").impair(delay_ms=0.5):
        assert transfer(a, b, 50_000_000) < 20
        assert transfer(b, a, 50_000_000) < 20


def test_a_machine_sees_nothing_of_its_impaired_link(pair: Layout) -> None:
    b = pair["b"]
    show = (
        "cat /sys/class/net/eth0/carrier_changes /sys/class/net/eth0/operstate; ls /sys/class/net"
    )
    before = b.run(show).stdout, b.observe()["addresses"], b.observe()["routes"]
    with b.link("eth0").impair(loss_pct=1, delay_ms=1, rate_mbit=5):
        assert (b.run(show).stdout, b.observe()["addresses"], b.observe()["routes"]) == before
    assert (b.run(show).stdout, b.observe()["addresses"], b.observe()["routes"]) == before


def test_directions_are_impaired_apart_and_healed_in_any_order(pair: Layout) -> None:
    a, b = pair["a"], pair["b"]
    to = b.link("eth0").impair(delay_ms=20, direction="to")
    from_ = b.link("eth0").impair(delay_ms=40, direction="from")
    assert 0.060 <= min(rtts(a, "b", 3)) < 0.100
    to.heal()
    assert 0.040 <= min(rtts(a, "b", 3)) < 0.060
    to = b.link("eth0").impair(loss_pct=100, direction="to")
    assert datagrams(a, b, 5) == []
    from_.heal()
    assert datagrams(a, b, 5) == []
    to.heal()
    assert min(rtts(a, "b", 3)) < 0.01


def test_impaired_twice_names_the_first(pair: Layout) -> None:
    link = pair["b"].link("eth0")
    refused = pytest.raises(
        FaultError,
        match=r"link b\.eth0: cannot begin 'link b\.eth0 delay 5 ms to it': "
        r"'link b\.eth0 loss 1 %' is in force since \d\d:\d\d:\d\d; try: heal\(\) that first",
    )
    with link.impair(loss_pct=1), refused:
        link.impair(delay_ms=5, direction="to")
    with link.impair(delay_ms=5, direction="to"):
        pass


def test_link_down_shows_what_a_pulled_cable_shows(pair: Layout) -> None:
    a, b = pair["a"], pair["b"]
    a.ping("b")
    fault = b.link("eth0").down()
    assert "NO-CARRIER" in b.run("ip link show eth0").stdout
    assert "10.0.0.2/24" in {row["address"] for row in b.observe()["addresses"]}
    with pytest.raises(OSError, match=r"no echo|unreachable"):
        a.ping("b", timeout_s=0.3)
    with pytest.raises(FaultError, match=r"'link b\.eth0 down' is in force"):
        b.link("eth0").down()
    # not after the second in which the kernel asks again; a busy host may need more than one try
    for tries_left in reversed(range(3)):
        fault.heal()
        begin = time.monotonic()
        a.ping("b")
        if time.monotonic() - begin < 0.9:
            break
        assert tries_left, "the first packet after the cable was plugged in is lost"
        fault = b.link("eth0").down()
    fault.heal()
    assert not fault.is_active


def test_link_that_is_impaired_can_be_pulled_too(pair: Layout) -> None:
    a, b = pair["a"], pair["b"]
    with b.link("eth0").impair(delay_ms=10):
        with b.link("eth0").down():
            assert "NO-CARRIER" in b.run("ip link show eth0").stdout
            with pytest.raises(OSError, match=r"no echo|unreachable"):
                a.ping("b", timeout_s=0.2)
        assert a.ping("b") >= 0.020
    assert min(rtts(a, "b", 3)) < 0.01


def test_link_that_is_pulled_can_be_impaired_too(pair: Layout) -> None:
    a, b = pair["a"], pair["b"]
    cable = b.link("eth0").down()
    line = b.link("eth0").impair(delay_ms=10)
    cable.heal()
    assert a.ping("b", timeout_s=0.9) >= 0.020
    line.heal()
    assert min(rtts(a, "b", 3)) < 0.01


def test_faults_of_many_links_at_once(build: Build) -> None:
    lan = Network("10.0.0.0/24")
    machines = {f"m{n}": Machine(links={"eth0": lan.at("auto")}) for n in range(8)}
    crowd = build(Layout.of("Crowd", {"lan": lan, **machines}))

    async def go() -> None:
        lines = [machine.link("eth0") for machine in crowd.aio.handles()]
        begun = await asyncio.gather(*(_begin(line.impair(delay_ms=5)) for line in lines))
        assert await crowd.aio.handle("m0").ping("m7") >= 0.020
        await asyncio.gather(*(fault.heal() for fault in begun))
        assert min([await crowd.aio.handle("m0").ping("m7") for _ in range(20)]) < 0.015

    async def _begin(opening: Fault) -> AsyncDisturbance:
        return await opening

    asyncio.run(go())


def in_fabric(environment: Layout, script: str) -> str:
    """What a script prints in the fabric."""
    reading, writing = os.pipe()
    null = os.open("/dev/null", os.O_RDWR)

    async def go() -> None:
        await environment.aio.fabric.request(
            "inside",
            argv=["sh", "-c", script],
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
            fds=(null, writing, writing),
        )

    environment.aio.portal.call(go)
    os.close(writing)
    os.close(null)
    with os.fdopen(reading) as file:
        return file.read()


def test_healed_faults_leave_nothing_in_the_fabric(pair: Layout) -> None:
    # names and bridges of the interfaces, their queues, rules, and processes
    look = (
        "ip -o link | sed -E 's/^[0-9]+: ([^ ]+).*(master [^ ]+)?.*/\\1 \\2/' | sort; "
        "bridge link | awk '{print $2, $6, $7}' | sort; tc qdisc | sort; "
        "nft list ruleset; ps -eo comm | grep cg-relay"
    )
    before = in_fabric(pair, look)
    assert "b-eth0" in before
    link = pair["b"].link("eth0")
    for loss_pct, rate_mbit, delay_ms in ((1, None, None), (None, 5, None), (None, None, 1)):
        with link.impair(loss_pct=loss_pct, rate_mbit=rate_mbit, delay_ms=delay_ms):
            assert in_fabric(pair, look) != before
    with link.down(), pair["a"].link("eth0").impair(delay_ms=1):
        pass
    with pair.partition("a", "b"):
        assert in_fabric(pair, look) != before
    time.sleep(0.1)  # a killed relay takes its time to be gone
    assert in_fabric(pair, look) == before


def test_link_stays_down_when_its_machine_restarts(pair: Layout) -> None:
    a, b = pair["a"], pair["b"]
    fault = b.link("eth0").down()
    b.restart()
    assert "NO-CARRIER" in b.run("ip link show eth0").stdout
    b.stop()
    fault.heal()
    with pytest.raises(OSError, match=r"no echo|unreachable"):
        a.ping("b", timeout_s=0.2)
    b.start()
    a.ping("b")


def test_frozen_machine_answers_pings_and_nothing_else(pair: Layout) -> None:
    a, b = pair["a"], pair["b"]
    counting = "while sleep 0.01; do echo >> /tmp/count; done"
    b.run(["setsid", "-f", "sh", "-c", f"({counting}) >/dev/null 2>&1 </dev/null"])
    b.run(["setsid", "-f", "sh", "-c", "kill -STOP $$; echo went on > /tmp/stopped"])
    time.sleep(0.1)
    with b.freeze() as fault:
        assert fault.subject == "machine b frozen"
        a.ping("b")
        with pytest.raises(FabricError, match=r"machine 'b' of .*: it is frozen; try: heal\(\)"):
            b.run("true")
        with pytest.raises(FabricError, match="frozen"):
            b.stop()
        with pytest.raises(client.Refused, match="machine 'b' is frozen"):  # by any other door
            client.connect(str(pair.aio.socket), "b")
        with pytest.raises(FaultError, match="'machine b frozen' is in force"):
            b.freeze()
        with pytest.raises(FaultError, match="'machine b frozen' is in force"):
            b.crash()
        time.sleep(0.1)
    first = len(b.read_text("/tmp/count"))
    time.sleep(0.2)
    assert len(b.read_text("/tmp/count")) > first
    assert b.run("cat /tmp/stopped", check=False).stdout == ""  # who was stopped before stays so


@pytest.mark.parametrize("around", [[], ["unshare", "--user", "--pid", "--fork"]])
def test_frozen_machine_does_nothing_whatever_its_namespace(
    pair: Layout, around: list[str]
) -> None:
    b = pair["b"]
    script = "while sleep 0.01; do echo >> /tmp/c; done >/dev/null 2>&1"
    b.run(["setsid", "-f", *around, "sh", "-c", script])
    time.sleep(0.1)
    fault = b.freeze()
    time.sleep(1.5)
    fault.heal()
    assert len(b.read_text("/tmp/c")) < 40  # else it were more than 100


#: the child waits for a reader before its exec, and the parent in the kernel for that exec
SPAWNS = """
import os
os.mkfifo("/tmp/fifo")
waits = [(os.POSIX_SPAWN_OPEN, 0, "/tmp/fifo", os.O_RDONLY, 0)]
os.waitpid(os.posix_spawn("/bin/true", ["true"], {}, file_actions=waits), 0)
open("/tmp/spawned", "w").close()
"""


def test_machine_freezes_in_the_middle_of_a_spawn(pair: Layout) -> None:
    b = pair["b"]
    b.run(["setsid", "-f", "python3", "-c", SPAWNS])
    b.wait_for(command("grep -lq '^State:.D' /proc/[0-9]*/status"))
    with b.freeze():
        pass
    b.run("true > /tmp/fifo", timeout_s=10)
    b.wait_for(file("/tmp/spawned"), timeout_s=10)


def test_crashed_machine_says_no_goodbye_and_starts_again(pair: Layout) -> None:
    a, b = pair["a"], pair["b"]
    b.write_text("/srv/kept", "disk")
    serve = (
        "import socket,time; s=socket.create_server(('', 7000)); c,_=s.accept(); c.send(b'x'); "
        "time.sleep(60)"
    )
    b.run(["setsid", "-f", "python3", "-c", serve])
    deadline = time.monotonic() + 5
    while 7000 not in {row["port"] for row in b.observe()["listening"]}:
        assert time.monotonic() < deadline
    with a.connect(7000, "b") as sock:
        assert sock.recv(1) == b"x"
        fault = b.crash()
        with pytest.raises(FabricError, match=r"it is crashed; try: heal\(\)"):
            b.run("true")
        with pytest.raises(OSError, match=r"no echo|unreachable"):
            a.ping("b", timeout_s=0.2)
        fault.heal()
        assert b.run("true").ok
        a.ping("b")
        sock.settimeout(1.0)
        with pytest.raises(TimeoutError):
            sock.recv(1)  # neither an end nor a reset, until somebody asks
        sock.send(b"?")
        sock.settimeout(3.0)
        with pytest.raises(ConnectionResetError):
            sock.recv(1)
    fault.heal()


def test_crashed_machine_that_was_started_by_hand_needs_no_heal(pair: Layout) -> None:
    b = pair["b"]
    fault = b.crash()
    b.start()
    assert b.run("true").ok
    fault.heal()
    assert b.run("true").ok


def test_stopped_machine_can_neither_freeze_nor_crash(pair: Layout) -> None:
    b = pair["b"]
    b.stop()
    with pytest.raises(FaultError, match=r"cannot freeze it: it is stopped; try: start\(\)"):
        b.freeze()
    with pytest.raises(FaultError, match="cannot crash it: it is stopped"):
        b.crash()
    b.start()
    assert b.run("true").ok


def test_faults_of_a_machine_that_is_removed_heal_without_a_word(pair: Layout) -> None:
    b = pair["b"]
    faults = [b.link("eth0").impair(delay_ms=1), b.link("eth0").down(), b.freeze()]
    pair.remove("b")
    for fault in faults:
        fault.heal()
    assert pair["a"].run("true").ok


def test_async_faults_are_awaited_or_entered(pair: Layout) -> None:
    a, b = pair["a"].aio, pair["b"].aio

    async def go() -> None:
        async with b.link("eth0").impair(delay_ms=15) as fault:
            states = [fault.is_active]
            assert await a.ping("b") >= 0.030
        assert [*states, fault.is_active] == [True, False]
        fault = await b.link("eth0").down()
        with pytest.raises(OSError, match=r"no echo|unreachable"):
            await a.ping("b", timeout_s=0.2)
        await fault.heal()
        await fault.heal()
        assert min([await a.ping("b") for _ in range(3)]) < 0.5
        async with b.freeze():
            with pytest.raises(FabricError, match="frozen"):
                await b.run("true")
        async with b.crash():
            with pytest.raises(FabricError, match="crashed"):
                await b.run("true")
        assert (await b.run("true")).ok

    asyncio.run(go())


def test_faults_are_told_of_with_their_times(pair: Layout, recorder: Recorder) -> None:
    with pair["b"].link("eth0").down():
        pass
    told = [(e.subject, e.kind, e.text) for e in recorder.events if e.subject.startswith("fault")]
    assert told == [
        ("fault link b.eth0 down", "start", ""),
        ("fault link b.eth0 down", "done", "healed"),
    ]
    record = pair.aio.disturbances[0].record()
    assert (record["kind"], record["what"]) == ("down", "link b.eth0 down")
    assert record["began_s"] <= record["healed_s"]


class Kinds(Layout):
    lan = Network("10.0.0.0/24")
    wire = Network("10.9.0.0/31", kind="point-to-point")
    a = Machine(links={"eth0": lan.at(".1"), "eth1": wire.at("10.9.0.0")})
    b = Machine(links={"eth0": lan.at(".2", kind="macvlan"), "eth1": wire.at("10.9.0.1")})


def carrier(machine: MachineHandle, interface: str) -> bool:
    return "NO-CARRIER" not in machine.run(f"ip link show {interface}").stdout


def test_wire_that_is_pulled_has_no_carrier_at_either_end(build: Build) -> None:
    kinds = build(Kinds)
    a, b = kinds["a"], kinds["b"]
    one = a.link("eth1").down()
    assert (carrier(a, "eth1"), carrier(b, "eth1")) == (False, False)
    other = b.link("eth1").down()
    one.heal()
    assert (carrier(a, "eth1"), carrier(b, "eth1")) == (False, False)
    other.heal()
    assert (carrier(a, "eth1"), carrier(b, "eth1")) == (True, True)
    a.ping("10.9.0.1", timeout_s=2)


def test_wire_can_be_impaired(build: Build) -> None:
    kinds = build(Kinds)
    a, b = kinds["a"], kinds["b"]
    with b.link("eth1").impair(delay_ms=15):
        assert 0.030 <= min(a.ping("10.9.0.1") for _ in range(10)) < 0.080
        with a.link("eth1").down():
            assert not carrier(b, "eth1")
        assert carrier(b, "eth1")
        a.ping("10.9.0.1", timeout_s=2)
    assert min(a.ping("10.9.0.1") for _ in range(20)) < 0.01


def test_link_without_a_cable_of_its_own_is_refused(build: Build) -> None:
    b = build(Kinds)["b"]
    says = r"link b\.eth0 of layout 'Kinds': a link of kind 'macvlan' has no cable of its own; try:"
    with pytest.raises(ValueError, match=says):
        b.link("eth0").down()
    with pytest.raises(ValueError, match=says):
        b.link("eth0").impair(loss_pct=1)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({}, r"nothing to impair; try: impair\(loss_pct=1\), or another of loss_pct=, delay_ms="),
        ({"loss_pct": -1}, "loss_pct=-1 is negative"),
        ({"corrupt_pct": 101}, "corrupt_pct=101 is more than 100 %"),
        ({"delay_ms": "5"}, "delay_ms='5' is not a number"),
        ({"delay_ms": float("nan")}, "delay_ms=nan is not a number"),
        ({"jitter_ms": 1e9}, "jitter_ms=1000000000.0 is more than an hour"),
        ({"rate_mbit": 0}, r"rate_mbit=0 is not between .*; try: down\(\)"),
        ({"loss_pct": 1, "direction": "up"}, "direction='up'; try: 'both', 'to' or 'from'"),
    ],
)
def test_values_that_make_no_sense_are_refused_at_once(
    values: dict[str, object], says: str
) -> None:
    planned = make_plan(Pair).machines["b"]
    with pytest.raises(ValueError, match=says):
        _link_of(planned).impair(**values)


def _link_of(planned: PlannedMachine) -> Any:
    plan = make_plan(Pair)
    faults = Faults(
        tells=SimpleNamespace(name="pair"),
        knows=SimpleNamespace(plan=plan),
        reaches=SimpleNamespace(portal=None),
    )
    rooms = SimpleNamespace(portal=None, faults=faults)
    machine = SimpleNamespace(name="b")
    return AsyncLink(planned.links[0], machine, rooms)  # type: ignore[arg-type]


UNPRIVILEGED = """
import pytest
from pytest_carthage import Layout, Machine, Network

class Pair(Layout):
    lan = Network("10.0.0.0/24")
    a = Machine(links={"eth0": lan.at(".1")})
    b = Machine(links={"eth0": lan.at(".2")})

pair = Pair.fixture()

@pytest.mark.carthage_needs("delay", "loss", "rate", "partition", "freeze", "crash")
def test_all(pair):
    link = pair.b.link("eth0")
    with link.impair(delay_ms=10):
        assert pair.a.ping("b") >= 0.020
    with link.impair(loss_pct=100), pytest.raises(OSError):
        pair.a.ping("b", timeout_s=0.2)
    with link.impair(rate_mbit=10):
        pair.a.ping("b")
    with link.down(), pytest.raises(OSError):
        pair.a.ping("b", timeout_s=0.2)
    with pair.partition(pair.a, pair.b), pytest.raises(OSError):
        pair.a.ping("b", timeout_s=0.2)
    with pair.b.freeze():
        pair.a.ping("b")
    with pair.b.crash(), pytest.raises(OSError):
        pair.a.ping("b", timeout_s=0.2)
    pair.a.ping("b")
"""


def test_faults_need_no_privilege() -> None:
    if problems := privilege.user_namespace_problems():
        pytest.skip("; ".join(map(str, problems)))
    with tempfile.TemporaryDirectory(prefix="faults-") as home:  # pytest's own are root's alone
        Path(home, "test_it.py").write_text(UNPRIVILEGED)
        argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_it.py"]
        done = subprocess.run(
            as_user(argv, home=Path(home)), capture_output=True, text=True, cwd=home, check=False
        )
    assert "1 passed" in done.stdout, done.stdout + done.stderr
