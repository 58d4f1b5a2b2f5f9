"""Machines whose agent is started when somebody wants something of it."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_carthage.fabric.wire import frames
from pytest_carthage.fabric.wire.client import Refused
from tests.fabric.bare import POLITE, Fabric
from tests.fabric.specs import machine_spec

pytestmark = pytest.mark.real

#: stands in for the kernel's refusal of a machine's file system
REFUSES = """
from pytest_carthage.fabric import rootfs
enter = rootfs.enter
def refuse(**given):
    if given["hostname"] == "late":
        raise OSError(28, "mount(tmpfs on /tmp): No space left on device")
    enter(**given)
rootfs.enter = refuse
"""


def make(fabric: Fabric, *names: str, **spec: object) -> dict[str, object]:
    """Make machines in one batch, of which the first has an agent."""
    specs = [machine_spec(name, **spec) for name in ("first", *names)]
    reply = fabric.ask("machines", machines=specs, hosts="")
    assert reply["failed"] == {}
    return reply


def state(fabric: Fabric, name: str) -> tuple[bool, bool]:
    """Whether a machine is asleep, and whether it has an agent."""
    machine = fabric.ask("status")["machines"][name]
    return machine["asleep"], machine["pid"] is not None


def until_awake(fabric: Fabric, name: str) -> None:
    """Wait until a machine is asleep no more."""
    deadline = time.monotonic() + 20
    while state(fabric, name)[0]:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_first_machine_shows_that_agents_can_be_started_and_others_sleep(fabric: Fabric) -> None:
    made = make(fabric, "a", "b")["made"]
    assert isinstance(made, dict)
    assert [made[name]["pid"] is None for name in ("first", "a", "b")] == [False, True, True]
    assert [state(fabric, name) for name in ("first", "a")] == [(False, True), (True, False)]


def test_machine_with_a_main_process_never_sleeps(fabric: Fabric) -> None:
    make(fabric)
    fabric.make("busy", command=POLITE)
    assert state(fabric, "busy") == (False, True)


def test_who_has_come_wakes_nobody_until_he_asks_something(fabric: Fabric) -> None:
    make(fabric, "a")
    with fabric.client("a") as one, fabric.client("a") as other:
        assert state(fabric, "a") == (True, False)
        assert one.run(["echo", "there"], timeout_s=20) == (0, b"there\n", b"")
        assert state(fabric, "a") == (False, True)
        # who has been waiting beside him was taken along
        assert other.run(["hostname"], timeout_s=20) == (0, b"a\n", b"")


def test_what_a_sleeping_machine_says_it_can_do_is_what_its_agent_says(fabric: Fabric) -> None:
    make(fabric, "a")
    with fabric.client() as asleep, fabric.client() as awake:
        before, _ = asleep.request("channel", machine="a")
        after, _ = awake.request("channel", machine="first")
    assert before["operations"] == after["operations"] != []


def test_descriptors_of_the_first_request_reach_the_agent(fabric: Fabric) -> None:
    make(fabric, "a")
    reading, writing = os.pipe()
    with fabric.client("a") as inside, Path("/dev/null").open() as null:
        fds = (null.fileno(), writing, writing)
        reply, _ = inside.request("run", argv=["echo", "by pipe"], fds=fds)
        os.close(writing)
        assert os.read(reading, 100) == b"by pipe\n"
        os.close(reading)
        assert inside.request("wait", job=reply["job"])[0]["status"] == 0


def test_who_leaves_again_wakes_nobody_and_leaves_no_descriptor(fabric: Fabric) -> None:
    make(fabric, "a")
    with fabric.client() as asking:
        listing = "ls /proc/1/fd | wc -l"

        def descriptors() -> str:
            reading, writing = os.pipe()
            with Path("/dev/null").open() as null:
                asking.request(
                    "inside",
                    argv=["sh", "-c", listing],
                    env={"PATH": "/usr/bin:/bin"},
                    fds=(null.fileno(), writing, writing),
                )
            os.close(writing)
            text = os.read(reading, 100).decode()
            os.close(reading)
            return text

        before = descriptors()
        for _ in range(20):
            fabric.client("a").close()
        deadline = time.monotonic() + 10
        while descriptors() != before:
            assert time.monotonic() < deadline, descriptors()
            time.sleep(0.02)
    assert state(fabric, "a") == (True, False)


def test_two_who_ask_at_once_have_one_agent(fabric: Fabric) -> None:
    make(fabric, "a")
    clients = [fabric.client("a") for _ in range(8)]
    for client in clients:
        client.send("observe")
    seen = [client.receive()[0] for client in clients]
    agents = {tuple(row["pid"] for row in answer["processes"]) for answer in seen}
    assert agents == {(1,)}
    for client in clients:
        client.close()


@pytest.mark.parametrize("op", ["stop", "remove"])
def test_machine_that_ends_asleep_hangs_up_on_who_waits(fabric: Fabric, op: str) -> None:
    make(fabric, "a")
    with fabric.client("a") as waiting:
        fabric.ask(op, machine="a")
        with pytest.raises(OSError, match=r"closed|Broken pipe|reset"):
            waiting.run(["true"], timeout_s=20)
    if op == "stop":
        with pytest.raises(Refused, match=r"machine 'a' is stopped"):
            fabric.client("a")
        fabric.ask("start", machine="a")
        assert fabric.run("a", "echo again") == (0, b"again\n")


def test_machine_that_sleeps_is_on_already(fabric: Fabric) -> None:
    make(fabric, "a")
    with pytest.raises(Refused, match=r"machine 'a' runs already"):
        fabric.ask("start", machine="a")


@pytest.mark.parametrize("kind", ["freeze", "crash"])
def test_fault_of_a_sleeping_machine_meets_an_agent(fabric: Fabric, kind: str) -> None:
    make(fabric, "a")
    with fabric.client("a") as waiting:
        fabric.ask("disturb", kind=kind, machine="a", ports=[])
        if kind == "freeze":
            with pytest.raises(Refused, match=r"machine 'a' is frozen"):
                fabric.client("a")
            assert state(fabric, "a") == (False, True)
        else:
            with pytest.raises(OSError, match=r"closed|Broken pipe|reset"):
                waiting.run(["true"], timeout_s=20)
            assert state(fabric, "a") == (False, False)


def test_machine_that_does_not_wake_is_off_and_says_why(
    fabric_factory: Callable[..., Fabric],
) -> None:
    fabric = fabric_factory(REFUSES)
    make(fabric, "late", "other")
    with fabric.client("late") as asking, fabric.client("late") as beside:
        text = r"machine 'late' is off: its agent did not start: .*No space left on device"
        for client in (asking, asking, beside):
            with pytest.raises(Refused, match=text):
                client.request("ping")
    assert state(fabric, "late") == (False, False)
    with pytest.raises(Refused, match=r"machine 'late' is stopped"):
        fabric.client("late")
    assert fabric.run("other", "echo fine") == (0, b"fine\n")


def test_request_that_comes_in_pieces_wakes_once_and_is_answered(fabric: Fabric) -> None:
    make(fabric, "a")
    with frames.connect(fabric.path) as sock:
        sock.settimeout(20)
        frames.send(sock, {"id": 1, "op": "channel", "machine": "a"})
        assert frames.receive(sock)[0]["ok"]
        data = frames.pack({"id": 2, "op": "ping", "padding": "x" * 100_000})
        sock.sendall(data[:3])
        until_awake(fabric, "a")
        sock.sendall(data[3:])
        reply, _ = frames.receive(sock)
    assert (reply["id"], reply["ok"]) == (2, True)


def test_rest_of_the_fabric_is_served_while_a_machine_wakes(
    fabric_factory: Callable[..., Fabric],
) -> None:
    slow = """
import time
from pytest_carthage.fabric import rootfs
enter = rootfs.enter
def slowly(**given):
    if given["hostname"] == "late":
        time.sleep(2)
    enter(**given)
rootfs.enter = slowly
"""
    fabric = fabric_factory(slow)
    make(fabric, "late", "other")
    answers: list[tuple[int, bytes]] = []
    thread = threading.Thread(target=lambda: answers.append(fabric.run("late", "echo late")))
    thread.start()
    time.sleep(0.3)
    fabric.quickly("status")
    assert fabric.run("other", "echo other") == (0, b"other\n")
    assert not answers
    thread.join()
    assert answers == [(0, b"late\n")]


def test_names_of_machines_that_came_meanwhile_are_known_to_who_wakes(fabric: Fabric) -> None:
    make(fabric, "a")
    fabric.ask("hosts", text="192.0.2.7 newcomer\n")
    assert fabric.run("a", "grep -v '^#' /etc/hosts") == (0, b"192.0.2.7 newcomer\n")
