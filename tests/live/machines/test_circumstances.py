"""Why something failed is told where it fails: faults, gates that reach nobody, want of memory."""

from __future__ import annotations

import contextlib
import re
import socket

import pytest

from pytest_carthage import (
    CommandError,
    Layout,
    Limits,
    Machine,
    Network,
    TimeLimitError,
    command,
    exited,
    port,
)
from pytest_carthage.fabric.host import privilege
from tests.live.conftest import Build

pytestmark = pytest.mark.real

HOG = "python3 -c 'x = bytearray(200 << 20)'"


class Pair(Layout):
    lan = Network("10.0.0.0/24")
    left = Machine(links={"eth0": lan.at(".1")})
    right = Machine(links={"eth0": lan.at(".2")})


@pytest.fixture
def pair(build: Build) -> Pair:
    return build(Pair)


def test_fault_in_force_is_named_where_nobody_answers(pair: Pair) -> None:
    left = pair.left
    # docs: partition
    with (
        pair.partition(pair.left, pair.right),
        pytest.raises(TimeoutError, match=r"no echo .* fault partition left .* right"),
    ):
        left.ping("10.0.0.2", timeout_s=0.2)
    # docs: end
    named = r"in force since \d\d:\d\d:\d\d: fault partition left \| right"
    with pair.partition(pair.left, pair.right):
        with pytest.raises(TimeoutError, match=named):
            left.connect(80, "10.0.0.2", timeout_s=0.2)
        with pytest.raises(TimeLimitError, match=named):
            left.wait_for(port(80), timeout_s=0.2)
        with pytest.raises(TimeLimitError, match=named):
            left.wait_for(command("false"), timeout_s=0.2)
        with pytest.raises(FileNotFoundError, match=named):
            left.ping("nobody.example")
        with pytest.raises(CommandError, match=rf"status 1 .*\n(.*\n)*{named}"):
            left.run("false")
        with pytest.raises(TimeLimitError, match=named):
            left.run("sleep 10", timeout_s=0.1)


def test_nothing_is_named_where_nothing_was_in_force(pair: Pair) -> None:
    with pair.partition(pair.left, pair.right):
        pass
    with pytest.raises(CommandError) as caught:
        pair.left.run("false")
    assert str(caught.value).endswith("it printed:\n  (nothing)")
    with pytest.raises(ConnectionRefusedError, match=r"Connection refused$"):
        pair.left.connect(80, "10.0.0.2")


def test_fault_that_is_over_by_then_is_named_with_its_time(pair: Pair) -> None:
    cut = pair.partition(pair.left, pair.right)
    with pytest.raises(TimeLimitError) as caught:
        # healed while it is waited for
        pair.left.wait_for(command("true && false"), timeout_s=0.2)
    cut.heal()
    assert "in force since" in str(caught.value)
    since_s = cut.began_s
    (line,) = pair.aio.portal.call(pair.left.aio.circumstances, since_s)
    assert re.fullmatch(r"in force from \S+ to \S+: fault partition left \| right", line)


def test_many_faults_are_not_all_named(pair: Pair) -> None:
    for _ in range(7):
        pair.left.links["eth0"].down().heal()
    lines = pair.aio.portal.call(pair.left.aio.circumstances, 0.0)
    assert len(lines) == 6
    assert lines[-1] == "and 2 more faults"


def test_far_end_that_refuses_a_gate_is_named_where_the_command_fails(pair: Pair) -> None:
    with contextlib.closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))  # nobody listens there
        to = f"127.0.0.1:{taken.getsockname()[1]}"
        ask = "import socket, sys; s = socket.create_connection(sys.argv[1:]); s.recv(1) or 1 / 0"
        with pair.gate(pair.left, to=to) as gate:
            with pytest.raises(CommandError) as caught:
                pair.left.run(["python3", "-c", ask, gate.address, str(gate.port)])
            assert f"\ngate of left to {to}: {to}: Connection refused" in str(caught.value)
            with pytest.raises(CommandError) as caught:
                pair.right.run("false")
            assert "gate" not in str(caught.value), "it is another machine's"


class Small(Layout):
    lan = Network("10.0.0.0/24")
    box = Machine(links={"eth0": lan.at(".1")}, limits=Limits(memory_mib=64))
    hog = Machine(
        links={"eth0": lan.at(".2")}, limits=Limits(memory_mib=64), command=f"sleep 0.2; {HOG}"
    )


@pytest.mark.skipif(not privilege.is_privileged(), reason="limits need root's control groups")
def test_want_of_memory_is_told_as_that(build: Build) -> None:
    small = build(Small)
    words = (
        r"the kernel has killed a process in it for want of memory since (it started|\S+): its "
        r"limit is 64 MiB; try: limits=Limits\(memory_mib=\.\.\.\) with more"
    )
    # docs: oom
    with pytest.raises(CommandError, match=r"for want of memory .* its limit is 64 MiB"):
        small.box.run(["python3", "-c", "x = bytearray(200 << 20)"])
    # docs: end
    for line, status in ((f"exec {HOG}", -9), (f"{HOG}; exit $?", 137)):
        with pytest.raises(CommandError, match=words) as caught:
            small.box.run(line)
        assert caught.value.result.status == status
    with pytest.raises(CommandError) as caught:
        small.box.run("kill -9 $$")
    assert "memory" not in str(caught.value), "that was no want of memory"
    small.hog.wait_for(exited(), timeout_s=30)
    with pytest.raises(TimeLimitError, match="killed a process of it for want of memory"):
        small.hog.wait_for(port(80), timeout_s=30)
