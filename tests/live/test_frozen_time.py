"""Machines that a test uses while time stands still in its process."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
import time_machine
from freezegun import freeze_time

from pytest_carthage import Layout, Machine, Network, file
from pytest_carthage.errors import TimeLimitError

from .conftest import Build

pytestmark = [pytest.mark.real, pytest.mark.timeout(60)]


class Pair(Layout):
    lan = Network("10.0.0.0/24")
    left = Machine(links={"eth0": lan.at(".1")})
    right = Machine(links={"eth0": lan.at(".2")})


@pytest.fixture(params=["freezegun", "time-machine"])
def frozen(request: pytest.FixtureRequest) -> Iterator[None]:
    with (
        freeze_time("2030-01-01")
        if request.param == "freezegun"
        else time_machine.travel("2030-01-01", tick=False)
    ):
        yield


def test_machines_are_built_used_and_ended(frozen: None, build: Build) -> None:
    pair = build(Pair)
    left, right = pair["left"], pair["right"]

    done = left.run("sleep 0.05; echo yes; sleep 30 & exit")  # whose output stays open
    assert done.stdout == "yes\n"
    assert done.duration_s >= 0.05
    now_s = _real_time_s()
    assert abs(done.started_at - now_s) < 60
    left.run("(sleep 0.3; touch /tmp/ready) >/dev/null 2>&1 &")
    left.wait_for(file("/tmp/ready"), timeout_s=20)
    with pytest.raises(TimeLimitError, match=r"no file /tmp/never after 0.2 s"):
        left.wait_for(file("/tmp/never"), timeout_s=0.2)
    with pytest.raises(TimeLimitError, match=r"'sleep 100' did not end in 0.2 s"):
        left.run("sleep 100", timeout_s=0.2)
    with pytest.raises(OSError, match=r"10\.0\.0\.99"):
        left.connect(80, "10.0.0.99", timeout_s=0.2)
    assert left.ping("10.0.0.2") < 5
    with pair.capture("lan") as packets:
        left.ping("10.0.0.2")
        packet = packets.wait_for(lambda packet: packet.protocol == "icmp", timeout_s=5)
    assert abs(packet.time_ns / 1e9 - now_s) < 60
    right.stop()
    right.start()
    assert right.run("hostname").stdout == "right\n"


def _real_time_s() -> float:
    """The time of the host, which neither library knows to ask for in this way."""
    return time.clock_gettime(5)


def test_two_threads_wait_at_the_same_time(frozen: None, build: Build) -> None:
    pair = build(Pair)
    ended: list[int] = []

    def wait(name: str) -> None:
        ended.append(pair[name].run("sleep 0.1").status)

    threads = [threading.Thread(target=wait, args=(name,)) for name in ("left", "right")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert ended == [0, 0]
