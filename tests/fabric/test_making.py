"""Machines that are made: in batches, at once, and where something goes wrong on the way."""

from __future__ import annotations

import os
import re
import signal
import socket
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pytest_carthage.fabric.wire import frames
from pytest_carthage.fabric.wire.client import Refused
from tests.fabric.bare import AT_ONCE_S, POLITE, Fabric
from tests.fabric.specs import machine_spec

pytestmark = pytest.mark.real

#: replaces what an agent does before it says that it is ready, in the machine of this host name
BEFORE_READY = """
import os, time
from pytest_carthage.fabric import rootfs
enter = rootfs.enter
def instead(**given):
    if given["hostname"] == "odd":
        {instead}
    enter(**given)
rootfs.enter = instead
"""


def network(fabric: Fabric) -> None:
    fabric.ask("networks", networks=[{"bridge": "br-n", "mtu": None, "kind": "bridged"}])


def on_network(name: str, number: int, **spec: Any) -> Any:
    """A machine with a link of its own."""
    link = {"network": "n", "addresses": [f"10.0.0.{number}/24"]}
    return machine_spec(name, links=[link], **spec)


def make(fabric: Fabric, *specs: Any) -> dict[str, Any]:
    return fabric.ask("machines", machines=list(specs), hosts="")


def what_is_there(fabric: Fabric) -> tuple[list[str], list[str], int]:
    """Machines, ports on the bridge, and descriptors of the fabric."""
    reading, writing = os.pipe()
    script = "ip -o link show master br-n | cut -d' ' -f2 | cut -d@ -f1; ls /proc/1/fd | wc -l"
    with fabric.client() as asking:
        fds = (reading, writing, writing)
        env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
        asking.request("inside", argv=["sh", "-c", script], env=env, fds=fds)
    os.close(writing)
    *names, count = os.read(reading, 1 << 16).decode().split()
    os.close(reading)
    return list(fabric.ask("status")["machines"]), names, int(count)


# several at once


def test_two_who_make_machines_at_once_have_both(fabric: Fabric) -> None:
    network(fabric)
    with (
        fabric.meanwhile("machines", machines=[on_network("a", 1)], hosts="") as one,
        fabric.meanwhile("machines", machines=[on_network("b", 2)], hosts="") as other,
    ):
        assert list(one.receive()[0]["made"]) == ["a"]
        assert list(other.receive()[0]["made"]) == ["b"]
    assert fabric.run("a", "ping -c1 -W5 10.0.0.2 >/dev/null && echo yes") == (0, b"yes\n")


def test_two_who_make_a_machine_of_one_name_at_once_have_one(fabric: Fabric) -> None:
    network(fabric)
    specs = [on_network("a", 1, command=POLITE)]
    with (
        fabric.meanwhile("machines", machines=specs, hosts="") as one,
        fabric.meanwhile("machines", machines=specs, hosts="") as other,
    ):
        answers = [one.receive()[0], other.receive()[0]]
    assert sorted(len(answer["made"]) for answer in answers) == [0, 1]
    (failed,) = [answer["failed"] for answer in answers if answer["failed"]]
    assert failed == {"a": "there is a machine of this name already"}
    assert fabric.run("a", "echo here") == (0, b"here\n")


def test_name_that_is_twice_in_a_batch_fails_once(fabric: Fabric) -> None:
    network(fabric)
    reply = make(fabric, on_network("a", 1), on_network("a", 2), on_network("b", 3))
    assert list(reply["made"]) == ["a", "b"]
    assert reply["failed"] == {"a": "there is a machine of this name already"}


# refused


def test_batch_whose_links_are_refused_leaves_nothing_and_can_be_asked_for_again(
    fabric: Fabric,
) -> None:
    network(fabric)
    make(fabric, on_network("a", 1))
    before = what_is_there(fabric)
    odd = on_network("c", 3)
    odd["links"][0]["mtu"] = 1  # less than any link of the kernel's may have
    with pytest.raises(Refused, match=r"link c-eth0 to eth0: "):
        make(fabric, on_network("b", 2), odd)
    assert what_is_there(fabric) == before == (["a"], ["a-eth0"], before[2])
    assert make(fabric, on_network("b", 2), on_network("c", 3))["failed"] == {}


def test_machine_that_wants_the_port_of_another_fails_and_leaves_it_alone(fabric: Fabric) -> None:
    network(fabric)
    make(fabric, on_network("a", 1), on_network("b", 2))
    thief = on_network("c", 3)
    thief["links"][0]["port"] = "a-eth0"
    twin = on_network("d", 4)
    twin["links"].append({**twin["links"][0], "interface": "eth1"})
    reply = make(fabric, thief, twin, on_network("e", 5))
    assert list(reply["made"]) == ["e"]
    assert reply["failed"] == {
        "c": "port 'a-eth0' is that of machine 'a' already",
        "d": "port 'd-eth0' is that of two of its links",
    }
    assert fabric.run("a", "ping -c1 -W5 10.0.0.2 >/dev/null && echo yes") == (0, b"yes\n")


def test_network_that_is_not_there_fails_the_batch_by_name(fabric: Fabric) -> None:
    network(fabric)
    lost = machine_spec("b", links=[{"network": "lost"}])
    with pytest.raises(Refused, match=r"no network on bridge 'br-lost'; there are: br-n"):
        make(fabric, on_network("a", 1), lost)
    assert fabric.ask("status")["machines"] == {}


# one of several fails


@pytest.mark.parametrize(
    ("instead", "text"),
    [
        ("os._exit(3)", r"its agent ended before it was ready \(closed\)"),
        ("os.kill(os.getpid(), 11); time.sleep(60)", r"no word of its agent within 2 s"),
        ("raise OSError(30, 'mount(tmpfs on /tmp)')", r"\[Errno 30\] mount\(tmpfs on /tmp\)$"),
        ("raise RuntimeError('odd')", r"its agent ended before it was ready \(closed\)"),
        ("time.sleep(60)", r"no word of its agent within 2 s"),
    ],
    ids=["ends", "takes no signal", "refused", "fails", "silent"],
)
def test_machine_whose_agent_does_not_come_fails_alone_and_leaves_nothing(
    fabric_factory: Callable[..., Fabric], instead: str, text: str
) -> None:
    brief = "from pytest_carthage.fabric import machine; machine._READY_S = 2.0\n"
    fabric = fabric_factory(brief + BEFORE_READY.format(instead=instead))
    network(fabric)
    make(fabric, on_network("a", 1))
    before = what_is_there(fabric)
    odd, busy = on_network("odd", 2, command=POLITE), on_network("b", 3, command=POLITE)
    reply = make(fabric, odd, busy)
    assert list(reply["made"]) == ["b"]
    assert list(reply["failed"]) == ["odd"]
    assert re.match(text, reply["failed"]["odd"]), reply["failed"]
    fabric.ask("remove", machine="b")
    assert what_is_there(fabric) == before
    with pytest.raises(Refused, match=r"no machine 'odd'; there are: a"):
        fabric.client("odd")


def test_machine_whose_agent_says_nonsense_fails(fabric_factory: Callable[..., Fabric]) -> None:
    fabric = fabric_factory("""
from pytest_carthage.fabric.wire.control import Control
send = Control.send
def nonsense(self, message, fds=()):
    if message.get("step") == "ready":
        self.sock.send(b"[]")
    else:
        send(self, message, fds)
Control.send = nonsense
""")
    reply = make(fabric, machine_spec("a", command=POLITE))
    assert reply["made"] == {}
    assert reply["failed"]["a"].startswith("its agent ended before it was ready (a frame that is")
    assert fabric.ask("status")["machines"] == {}


def test_main_process_that_ends_at_once_fails_its_machine_alone(fabric: Fabric) -> None:
    reply = make(
        fabric,
        machine_spec("bad", command=["sh", "-c", "exit 3"]),
        machine_spec("missing", command=["/no/such/program"]),
        machine_spec("good", command=POLITE),
    )
    assert list(reply["made"]) == ["good"]
    assert reply["failed"] == {
        "bad": "its main process ended at once with status 3",
        "missing": "[Errno 2] No such file or directory: '/no/such/program'",
    }


def test_machine_that_dies_while_the_others_are_made_is_off(fabric: Fabric) -> None:
    """Its agent has said that it is ready, and is killed before the batch is."""
    network(fabric)
    make(fabric, on_network("a", 1, command=POLITE))
    pid = fabric.ask("status")["machines"]["a"]["pid"]
    with fabric.client() as asking:
        null = os.open("/dev/null", os.O_RDWR)
        env = {"PATH": "/usr/bin:/bin"}
        asking.request("inside", argv=["kill", "-9", str(pid)], env=env, fds=(null, null, null))
        os.close(null)
    deadline = time.monotonic() + 10
    while fabric.ask("status")["machines"]["a"]["pid"] is not None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    with pytest.raises(Refused, match=r"machine 'a' is stopped"):
        fabric.client("a")
    fabric.ask("start", machine="a")
    assert fabric.run("a", "echo again") == (0, b"again\n")


# who asked goes away, or behaves badly


def test_machines_whose_asker_has_left_are_there_to_be_removed(
    fabric_factory: Callable[..., Fabric],
) -> None:
    fabric = fabric_factory(BEFORE_READY.format(instead="time.sleep(1)"))
    network(fabric)
    odd = on_network("odd", 1, command=POLITE)
    begin = time.monotonic()
    with fabric.meanwhile("machines", machines=[odd], hosts=""):
        while not fabric.quickly("status")["machines"]:
            assert time.monotonic() - begin < 10
    # a creation that was cancelled while the agent was on its way: it waits for its turn
    fabric.ask("remove", machine="odd")
    assert time.monotonic() - begin >= 0.9
    assert what_is_there(fabric)[:2] == ([], [])
    assert make(fabric, on_network("odd", 1))["failed"] == {}


def test_what_is_no_specification_is_refused_and_leaves_nothing(fabric: Fabric) -> None:
    with pytest.raises(Refused, match=r"name"):
        fabric.ask("machines", machines=[{"kind": "process"}], hosts="")
    with pytest.raises(Refused, match=r"machines"):
        fabric.ask("machines", hosts="")
    assert fabric.ask("status")["machines"] == {}
    fabric.make("a")


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xff\xff\xff",
        struct.pack("!I", 4) + b"nope",
        struct.pack("!I", 2) + b"[]",
        struct.pack("!I", 100) + b"{",
        b"\0",
        struct.pack("!I", 30) + b'{"id":1,"op":"status","fds":3}',
    ],
    ids=["huge", "no JSON", "no object", "cut off", "half a length", "descriptors that are not"],
)
def test_malformed_request_ends_its_connection_alone(fabric: Fabric, data: bytes) -> None:
    with fabric.client() as good, frames.connect(fabric.path) as bad:
        bad.settimeout(10)
        bad.sendall(data)
        bad.shutdown(socket.SHUT_WR)
        assert bad.recv(100) == b""
        assert good.request("status")[0]["machines"] == {}


def test_client_that_takes_no_answers_keeps_nobody_waiting(fabric: Fabric) -> None:
    fabric.ask(
        "networks",
        networks=[{"bridge": f"b{n}", "mtu": None, "kind": "bridged"} for n in range(50)],
    )
    request = frames.pack({"id": 1, "op": "status"})
    with frames.connect(fabric.path) as greedy:
        greedy.setblocking(False)
        asked = 0
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            try:
                asked += greedy.send(request) // len(request)
            except BlockingIOError:
                break
        assert asked > 10
        fabric.quickly("status")
        fabric.make("a")
        # and each answer comes whole, as soon as he takes them
        greedy.settimeout(20)
        for _ in range(10):
            assert len(frames.receive(greedy)[0]["networks"]) == 50


def test_fabric_that_stands_still_answers_when_it_goes_on(fabric: Fabric) -> None:
    fabric.make("a")
    children = f"/proc/{fabric.process.pid}/task/{fabric.process.pid}/children"
    with Path(children).open() as file:
        init = os.pidfd_open(int(file.read().split()[0]))
    signal.pidfd_send_signal(init, signal.SIGSTOP)
    try:
        with frames.connect(fabric.path) as sock:
            sock.settimeout(0.3)
            frames.send(sock, {"id": 1, "op": "status"})
            with pytest.raises(TimeoutError):
                frames.receive(sock)
            signal.pidfd_send_signal(init, signal.SIGCONT)
            sock.settimeout(AT_ONCE_S)
            assert list(frames.receive(sock)[0]["machines"]) == ["a"]
    finally:
        signal.pidfd_send_signal(init, signal.SIGCONT)
        os.close(init)
