"""Nothing outlives what it belongs to: faults their machines, programs their askers."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import pytest

from pytest_carthage.fabric.wire import frames
from pytest_carthage.fabric.wire.client import Client, Refused
from tests.fabric.bare import AT_ONCE_S, POLITE, Fabric, ping
from tests.fabric.processes import begins, ends, marker
from tests.fabric.specs import machine_spec

pytestmark = pytest.mark.real

NEIGHBOURS: dict[str, Any] = {"hardware": {}, "machines": {}}


def lan(fabric: Fabric, *names: str) -> None:
    """Machines on one network; the n-th has 10.0.0.n."""
    fabric.ask("networks", networks=[{"bridge": "br-lan", "mtu": None, "kind": "bridged"}])
    for name in names:
        join(fabric, name)


def join(fabric: Fabric, name: str) -> None:
    """One more, a1 with 10.0.0.1 and so on."""
    link = {"network": "lan", "addresses": [f"10.0.0.{name[1:]}/24"]}
    fabric.make(name, links=[link], command=POLITE)


def reaches(fabric: Fabric, name: str, other: str) -> bool:
    """Whether an echo comes back in time."""
    with fabric.client(name) as inside:
        return inside.run(ping(f"10.0.0.{other[1:]}", 8))[0] == 0


def is_cut_off(fabric: Fabric, name: str, other: str) -> bool:
    """Whether no echo comes back for a while."""
    with fabric.client(name) as inside:
        return inside.run(ping(f"10.0.0.{other[1:]}", 1))[0] != 0


def partition(*groups: str) -> dict[str, Any]:
    """A request that cuts groups of machines off from each other, as in "a1 a2", "a3"."""
    members = [
        [
            {"machine": name, "ports": [f"{name}-eth0"], "addresses": [f"10.0.0.{name[1:]}"]}
            for name in group.split()
        ]
        for group in groups
    ]
    described = [{"members": group, "shared": {}} for group in members]
    return {"kind": "partition", "groups": described, "neighbours": NEIGHBOURS}


def test_partition_ends_with_its_last_machine_and_spares_one_of_the_same_name(
    fabric: Fabric,
) -> None:
    lan(fabric, "a1", "a2")
    number = fabric.ask("disturb", **partition("a1", "a2"))["number"]
    assert is_cut_off(fabric, "a1", "a2")
    fabric.ask("remove", machine="a2")
    assert fabric.faults() == [("partition", ["a1"])]
    join(fabric, "a2")
    assert reaches(fabric, "a1", "a2")
    fabric.ask("remove", machine="a1")
    assert fabric.faults() == []
    fabric.ask("heal", number=number)  # gone already is no error


def test_partition_goes_on_for_those_who_are_left(fabric: Fabric) -> None:
    lan(fabric, "a1", "a2", "a3")
    fabric.ask("disturb", **partition("a1", "a2 a3"))
    fabric.ask("remove", machine="a2")
    join(fabric, "a2")
    assert reaches(fabric, "a1", "a2")
    assert is_cut_off(fabric, "a1", "a3")
    assert fabric.faults() == [("partition", ["a1", "a3"])]


def impairment(name: str, **way: float) -> dict[str, Any]:
    """A request that makes the link of a machine bad, both ways."""
    cable = {"port": f"{name}-eth0", "bridge": "br-lan"}
    return {"kind": "impair", "machine": name, "cables": [cable], "ways": {"to": way, "from": way}}


def pull(name: str) -> dict[str, Any]:
    """A request that pulls the cable of a machine."""
    ports = {"ports": [f"{name}-eth0"], "neighbours": NEIGHBOURS}
    return {"kind": "down", "machine": name, **ports}


@pytest.mark.parametrize(
    "fault",
    [
        impairment("a2", loss=1.0),
        impairment("a2", delay_s=30.0),
        pull("a2"),
        {"kind": "freeze", "machine": "a2"},
    ],
    ids=lambda fault: str(fault["kind"]),
)
def test_fault_of_a_machine_ends_with_it(fabric: Fabric, fault: dict[str, Any]) -> None:
    lan(fabric, "a1", "a2")
    number = fabric.ask("disturb", **fault)["number"]
    assert fabric.faults() == [(fault["kind"], ["a2"])]
    fabric.ask("remove", machine="a2")
    assert fabric.faults() == []
    join(fabric, "a2")
    assert reaches(fabric, "a1", "a2")
    fabric.ask("heal", number=number)
    assert reaches(fabric, "a1", "a2")


def test_faults_of_a_machine_stay_while_it_is_off(fabric: Fabric) -> None:
    lan(fabric, "a1", "a2")
    number = fabric.ask("disturb", **pull("a2"))["number"]
    fabric.ask("stop", machine="a2")
    fabric.ask("start", machine="a2")
    assert is_cut_off(fabric, "a1", "a2")
    fabric.ask("stop", machine="a2")
    fabric.ask("heal", number=number)
    assert is_cut_off(fabric, "a1", "a2")
    fabric.ask("start", machine="a2")
    assert reaches(fabric, "a1", "a2")


FAILS_ONCE = """
from pytest_carthage.fabric import syscalls
umount, done = syscalls.umount, []
def fails_once(target, *flags):
    if "carthage-roots" in target and not done:
        done.append(target)
        raise OSError(16, "busy for once")
    umount(target, *flags)
syscalls.umount = fails_once
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts an overlay as root")
def test_removal_that_fails_leaves_the_machine_known_and_can_be_tried_again(
    fabric_factory: Callable[..., Fabric], tmp_path: Any
) -> None:
    fabric = fabric_factory(FAILS_ONCE)
    lower = tmp_path / "layer/tree"
    lower.mkdir(parents=True)

    def root(own: str) -> dict[str, Any]:
        for name in ("upper", "work"):
            (tmp_path / own / name).mkdir(parents=True)
        folders = {name: str(tmp_path / own / name) for name in ("upper", "work")}
        return {"machine": "web", "lower": [str(lower)], **folders}

    fabric.make("web", kind="namespace")
    fabric.ask("root", **root("first"))
    with pytest.raises(Refused, match="machine 'web' has a root already"):
        fabric.ask("root", **root("second"))
    with pytest.raises(Refused, match="busy for once"):
        fabric.ask("remove", machine="web")
    assert set(fabric.ask("status")["machines"]) == {"web"}
    fabric.ask("remove", machine="web")
    assert fabric.ask("status")["machines"] == {}
    fabric.make("web", kind="namespace")
    assert fabric.ask("root", **root("third"))["path"] == "/run/carthage-roots/web"


SLOW_FREEZE = """
from pytest_carthage.fabric import disturb, processes
from pytest_carthage.fabric.wire.steps import pause
freeze = processes.freeze
def slowly(pid):
    yield from pause(1.0)
    return (yield from freeze(pid))
processes.freeze = slowly
"""


@pytest.mark.parametrize("wait_s", [0.2, 2.0], ids=["before", "after"])
def test_fault_whose_asker_is_cancelled_does_not_stay(
    fabric_factory: Callable[..., Fabric], wait_s: float
) -> None:
    """Before it has begun, or after its answer is on the way."""
    fabric = fabric_factory(SLOW_FREEZE)
    fabric.make("web")
    with fabric.client() as asking:
        number = asking.send("disturb", kind="freeze", machine="web")
        time.sleep(wait_s)
        frames.send(asking._sock, {"id": number + 1, "op": "cancel", "request": number})
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline and (wait_s < 1 or fabric.faults()):
            time.sleep(0.05)
            if wait_s < 1 and time.monotonic() > deadline - 8:
                break
        assert fabric.faults() == []
    assert fabric.run("web", "echo well") == (0, b"well\n")


def cancel(client: Client, request: int) -> None:
    """Take a request back."""
    frames.send(client._sock, {"id": request + 1, "op": "cancel", "request": request})


def test_program_inside_whose_asker_is_cancelled_ends(fabric: Fabric) -> None:
    mark = marker()
    null = os.open(os.devnull, os.O_RDWR)
    with fabric.client() as asking:
        env = {"PATH": "/usr/bin:/bin"}
        number = asking.send("inside", fds=(null,) * 3, argv=["sleep", mark], env=env)
        assert begins(mark)
        cancel(asking, number)
        assert ends(mark)
    os.close(null)


DIES = """
import os
from pytest_carthage.fabric import population
population.Population.{step} = lambda self, machine: os._exit(7)
"""


@pytest.mark.parametrize("step", ["_configure", "_fork", "_until_ready"])
def test_fabric_that_dies_while_it_makes_machines_leaves_none(
    fabric_factory: Callable[..., Fabric], step: str
) -> None:
    """At a named moment of the batch, with machines of an earlier one running."""
    mark = marker()
    fabric = fabric_factory(DIES.replace("{step}", "_never") + _when_told(step))
    fabric.make("first", command=["sleep", mark])
    assert begins(mark)
    specs = [machine_spec(f"doomed{number}", command=["sleep", mark]) for number in range(3)]
    with fabric.client() as asking, pytest.raises(frames.Closed):
        asking.request("machines", machines=specs, hosts="")
    assert ends(mark)
    with pytest.raises(OSError):
        fabric.ask("status")


def _when_told(step: str) -> str:
    """Die at a step of the machine ``doomed1``."""
    return f"""
step = population.Population.{step}
def dies(self, machine):
    if machine.name == "doomed1":
        os._exit(7)
    return step(self, machine)
population.Population.{step} = dies
"""


def test_fabric_whose_owner_is_gone_takes_everything_along(
    fabric_factory: Callable[..., Fabric],
) -> None:
    mark = marker()
    fabric = fabric_factory()
    fabric.make("web", command=["sleep", mark])
    assert begins(mark)
    fabric.end()
    begin = time.monotonic()
    assert ends(mark)
    assert time.monotonic() - begin < AT_ONCE_S + 8
