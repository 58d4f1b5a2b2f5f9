"""A fabric serves everybody while one of its machines takes its time."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_carthage.fabric.wire.client import Refused
from tests.fabric.bare import AT_ONCE_S, POLITE, STUBBORN, Fabric
from tests.fabric.processes import begins, ends, marker
from tests.fabric.specs import machine_spec

pytestmark = pytest.mark.real

# one machine takes its time


def test_stop_of_a_stubborn_machine_keeps_no_other_waiting(fabric: Fabric) -> None:
    fabric.make("slow", command=STUBBORN)
    fabric.make("other", command=POLITE)
    begin = time.monotonic()
    with fabric.meanwhile("stop", machine="slow", timeout_s=3.0) as stopping:
        assert set(fabric.quickly("status")["machines"]) == {"slow", "other"}
        fabric.quickly("stop", machine="other", timeout_s=3.0)
        assert fabric.quickly("start", machine="other")["pid"]
        fabric.quickly("machines", machines=[machine_spec("third")], hosts="")
        with fabric.client("third") as third:
            assert third.run(["echo", "here"])[1] == b"here\n"
        fabric.quickly("heal", number=1)
        assert time.monotonic() - begin < 3.0
        stopping.receive()
        assert 3.0 <= time.monotonic() - begin < 6.0
    assert fabric.ask("status")["machines"]["slow"]["pid"] is None


def test_stops_at_once_take_as_long_as_the_slowest_of_them(fabric: Fabric) -> None:
    names = [f"m{number}" for number in range(4)]
    for name in names:
        fabric.make(name, command=STUBBORN)
    begin = time.monotonic()
    with contextlib.ExitStack() as stack:
        asked = [
            stack.enter_context(fabric.meanwhile("stop", machine=name, timeout_s=2.0))
            for name in names
        ]
        for connection in asked:
            connection.receive()
    assert 2.0 <= time.monotonic() - begin < 2 * 2.0 + 1


def test_machine_is_worked_on_in_the_order_of_the_requests(fabric: Fabric) -> None:
    fabric.make("web", command=STUBBORN)
    with (
        fabric.meanwhile("stop", machine="web", timeout_s=1.0) as stopping,
        fabric.meanwhile("start", machine="web") as starting,
        fabric.meanwhile("channel", machine="web") as reaching,
    ):
        stopping.receive()
        assert starting.receive()[0]["pid"]
        reaching.receive()
        assert reaching.run(["echo", "again"])[1] == b"again\n"


def test_start_behind_a_removal_is_refused_by_name(fabric: Fabric) -> None:
    fabric.make("web", command=STUBBORN)
    with (
        fabric.meanwhile("stop", machine="web", timeout_s=1.0) as stopping,
        fabric.meanwhile("remove", machine="web") as removing,
        fabric.meanwhile("remove", machine="web") as again,
        fabric.meanwhile("start", machine="web") as starting,
    ):
        stopping.receive()
        removing.receive()
        again.receive()
        with pytest.raises(Refused, match="no machine 'web'; there are: none"):
            starting.receive()
    fabric.make("web")


def test_orderly_stop_takes_no_longer_than_the_machine_needs(fabric: Fabric) -> None:
    fabric.make("web", command=POLITE)
    fabric.quickly("stop", machine="web", timeout_s=30.0)


def test_machine_that_says_goodbye_still_runs_commands(fabric: Fabric) -> None:
    fabric.make("web", command=STUBBORN)
    with fabric.client("web") as inside, fabric.meanwhile("stop", machine="web", timeout_s=3.0):
        time.sleep(0.2)
        begin = time.monotonic()
        assert inside.run(["echo", "still"])[1] == b"still\n"
        assert time.monotonic() - begin < AT_ONCE_S


def test_client_that_leaves_does_not_stop_the_stop(fabric: Fabric) -> None:
    mark = marker()
    fabric.make("web", command=["sh", "-c", f"trap '' TERM; while :; do sleep {mark}; done"])
    assert begins(mark)
    with fabric.meanwhile("stop", machine="web", timeout_s=0.5):
        pass
    assert ends(mark)
    deadline = time.monotonic() + 10  # its first process ends after all others
    while fabric.ask("status")["machines"]["web"]["pid"] is not None:
        assert time.monotonic() < deadline
        time.sleep(0.005)


SLOW_BIRTH = """
import time
from pytest_carthage.fabric import rootfs
enter = rootfs.enter
def slowly(**names):
    if names["hostname"].startswith("slow"):
        time.sleep(3)
    enter(**names)
rootfs.enter = slowly
"""


def test_machine_that_is_slow_to_be_made_keeps_no_other_waiting(
    fabric_factory: Callable[..., Fabric],
) -> None:
    fabric = fabric_factory(SLOW_BIRTH)
    slow = [machine_spec("slow"), machine_spec("slower")]
    with fabric.meanwhile("machines", machines=slow, hosts="") as making:
        fabric.quickly("status")
        assert "quick" in fabric.quickly("machines", machines=[machine_spec("quick")])["made"]
        again = fabric.quickly("machines", machines=[machine_spec("slow")])
        assert again["failed"] == {"slow": "there is a machine of this name already"}
        assert set(making.receive()[0]["made"]) == {"slow", "slower"}


SLOW_GUEST = """
import time
from pytest_carthage.fabric import birth
birth.become_guest = lambda message, control: time.sleep(2)
"""


def test_attach_that_takes_its_time_keeps_no_other_waiting(
    fabric_factory: Callable[..., Fabric],
) -> None:
    fabric = fabric_factory(SLOW_GUEST)
    fabric.make("web", kind="namespace")
    with fabric.meanwhile("attach", machine="web", pid=1, env={}) as attaching:
        fabric.quickly("status")
        fabric.quickly("machines", machines=[machine_spec("other")], hosts="")
        with pytest.raises(Refused, match="its agent ended before it was ready"):
            attaching.receive()
    assert fabric.ask("status")["machines"]["web"]["pid"] is None


RESTLESS = """
from pytest_carthage.fabric import processes
fields = processes._fields
processes._fields = lambda pid: ["R", *fields(pid)[1:]]
processes._STOP_S = 2.0
"""


def test_freeze_that_takes_its_time_keeps_no_other_waiting(
    fabric_factory: Callable[..., Fabric],
) -> None:
    fabric = fabric_factory(RESTLESS)
    fabric.make("web")
    with fabric.meanwhile("disturb", kind="freeze", machine="web") as freezing:
        fabric.quickly("status")
        fabric.quickly("machines", machines=[machine_spec("other")], hosts="")
        with pytest.raises(Refused, match="processes that do not stop within 2 s"):
            freezing.receive()
    with fabric.client("web") as inside:  # and it goes on
        assert inside.run(["echo", "well"])[1] == b"well\n"
    assert fabric.ask("status")["faults"] == []


SILENT_RELAY = """
import time
from pytest_carthage.fabric import cable, relay
relay.serve = lambda *sockets: time.sleep(100)
cable.Cable._by_netem = cable.Cable._by_filter = cable.Cable._by_relay
cable._ANSWER_S = 1.5
"""


def test_relay_that_does_not_answer_keeps_no_other_waiting_and_the_cable_carries(
    fabric_factory: Callable[..., Fabric],
) -> None:
    fabric = fabric_factory(SILENT_RELAY)
    fabric.ask("networks", networks=[{"bridge": "br-lan", "mtu": None, "kind": "bridged"}])
    for number in (1, 2):
        link = {"network": "lan", "addresses": [f"10.0.0.{number}/24"]}
        fabric.make(f"m{number}", links=[link])
    with fabric.meanwhile(
        "disturb",
        kind="impair",
        machine="m1",
        cables=[{"port": "m1-eth0", "bridge": "br-lan"}],
        ways={"to": {"delay_s": 0.1}},
    ) as impairing:
        fabric.quickly("status")
        fabric.quickly("stop", machine="m2")
        fabric.quickly("start", machine="m2")
        with pytest.raises(Refused, match=r"the relay does not answer within 1\.5 s"):
            impairing.receive()
    with fabric.client("m2") as inside:
        assert inside.run(["ping", "-c1", "-w5", "10.0.0.1"])[0] == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts an overlay as root")
def test_root_whose_layer_is_locked_waits_alone(fabric: Fabric, tmp_path: Path) -> None:
    for name in ("layer/tree", "upper", "work"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "layer/tree/file").write_text("of the image")
    fabric.make("web", kind="namespace")
    root = {name: str(tmp_path / name) for name in ("upper", "work")}
    lock = os.open(tmp_path / "layer", os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        with fabric.meanwhile(
            "root", machine="web", lower=[str(tmp_path / "layer/tree")], **root
        ) as mounting:
            fabric.quickly("status")
            time.sleep(0.1)
            fabric.quickly("machines", machines=[machine_spec("other")], hosts="")
            fcntl.flock(lock, fcntl.LOCK_UN)
            assert mounting.receive()[0]["path"] == "/run/carthage-roots/web"
            with pytest.raises(BlockingIOError):  # nobody may remove it now
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fabric.ask("remove", machine="web")
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        os.close(lock)


def test_nft_that_hangs_keeps_no_other_waiting_and_is_killed(
    fabric_factory: Callable[..., Fabric], tmp_path: Path
) -> None:
    program = tmp_path / "nft"
    program.write_text("#!/bin/sh\nexec sleep 1000\n")
    program.chmod(0o755)
    patch = f"""
from pytest_carthage.fabric import nft
nft._ENV = {{"PATH": {str(tmp_path)!r} + ":/bin"}}
nft._LIMIT_S = 1.5
"""
    fabric = fabric_factory(patch)
    fabric.make("plain")
    spec = machine_spec("router", links=[], forwards=[FORWARD])
    with fabric.meanwhile("machines", machines=[spec], hosts="") as making:
        fabric.quickly("status")
        fabric.quickly("stop", machine="plain")
        failed = making.receive()[0]["failed"]["router"]
    assert "did not end within 1.5 s, and was killed" in failed
    assert set(fabric.ask("status")["machines"]) == {"plain"}


FORWARD = {"interface": "eth0", "protocol": "tcp", "port": 1, "to": "10.0.0.2", "to_port": 2}


def test_fabric_that_answers_nothing_is_given_up_by_who_connects(
    fabric_factory: Callable[..., Fabric], monkeypatch: pytest.MonkeyPatch
) -> None:
    import asyncio

    from pytest_carthage.errors import FabricError
    from pytest_carthage.fabric.wire import channel

    fabric = fabric_factory(
        "import time\nfrom pytest_carthage.fabric import init\n"
        "init.Fabric._channel = lambda *request: time.sleep(3)"
    )
    fabric.make("web")
    monkeypatch.setattr(channel, "_CONNECT_S", 0.3)
    begin = time.monotonic()
    with pytest.raises(FabricError, match=r"^machine 'web': no answer within 0\.3 s$"):
        asyncio.run(channel.connect(fabric.path, "machine 'web'", "web"))
    assert time.monotonic() - begin < 3
