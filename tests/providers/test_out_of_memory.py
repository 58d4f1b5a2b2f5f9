"""Machines that are out of memory: their programs are ended, and never who answers for them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import pytest

from pytest_carthage import Layout, Limits, Machine, Network
from pytest_carthage.fabric.container import groups
from pytest_carthage.live.machines.machine import MachineHandle
from pytest_carthage.portal import Portal
from pytest_carthage.providers.netns import NetnsProvider
from pytest_carthage.providers.podman import PodmanProvider
from pytest_carthage.store.built import Built
from tests.providers.conftest import DEBIAN
from tests.support.layouts import Factories, building

pytestmark = [
    pytest.mark.real,
    pytest.mark.timeout(180),
    pytest.mark.skipif(os.geteuid() != 0, reason="limits need root's control groups"),
]

FEW = Limits(memory_mib=64)


def crowd(size_bytes: int) -> str:
    """Programs that hold so much each, and more than there is together."""
    one = f"head -c {size_bytes} /dev/zero | tail -c {size_bytes} | sleep 3"
    return f"for i in $(seq {180_000_000 // size_bytes}); do ({one}) & done; wait"


#: and a large one
HOG = "head -c 300000000 /dev/zero | tail -c 300000000 >/dev/null"


class Small(Layout):
    lan = Network("10.0.0.0/24")
    bare = Machine(links={"eth0": lan.at(".1")}, limits=FEW)
    plain = Machine(DEBIAN, links={"eth0": lan.at(".2")}, limits=FEW)
    served = Machine(DEBIAN, links={"eth0": lan.at(".3")}, limits=FEW, command=["sleep", "1000"])
    booted = Machine(
        DEBIAN, links={"eth0": lan.at(".4")}, limits=Limits(memory_mib=96), init="systemd"
    )
    boxed = Machine(DEBIAN, links={"eth0": lan.at(".5")}, limits=FEW, on="podman")


@pytest.fixture(scope="module")
def small(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Small]:
    if problems := PodmanProvider().check():
        pytest.skip("; ".join(map(str, problems)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CARTHAGE_STATE", str(tmp_path_factory.mktemp("state")))
        providers: Factories = {"netns": NetnsProvider, "podman": PodmanProvider}
        with contextlib.closing(Portal()) as portal, building(portal, providers) as build:
            yield build(Small)


names = pytest.mark.parametrize("name", ["bare", "plain", "served", "booted", "boxed"])


def memory_group(text: str) -> str:
    """The control group that bounds memory, of what /proc/PID/cgroup says."""
    rows = [line.split(":", 2) for line in text.splitlines()]
    return next(path for _, controllers, path in rows if controllers in ("memory", ""))


def agent_of(machine: MachineHandle) -> str:
    """The process id of who answers for a machine, as that counts."""
    return machine.run("grep -l ^cg: /proc/[0-9]*/comm").stdout.split("/")[2]


def killed(small: Small, name: str) -> int:
    """How many of a machine's processes the kernel has killed for want of memory."""

    async def ask() -> int:
        reply, _ = await small.aio.fabric.request("oom", machine=name)
        return int(reply["kills"])

    return small.aio.portal.call(ask)


@names
def test_crowd_that_has_all_the_memory_leaves_the_agent(small: Small, name: str) -> None:
    machine: MachineHandle = small[name]
    agent, before = agent_of(machine), killed(small, name)
    # small ones: who holds the most of all is not among them; but more than a systemd does, which
    # is a program of the machine like any
    size_bytes = 30_000_000 if name == "booted" else 3_000_000
    machine.run(f"{crowd(size_bytes)}; true")
    assert killed(small, name) > before
    assert machine.run("echo still here").stdout == "still here\n"
    assert agent_of(machine) == agent


@names
def test_program_that_wants_too_much_is_ended(small: Small, name: str) -> None:
    machine: MachineHandle = small[name]
    agent = agent_of(machine)
    done = machine.run(["bash", "-c", f"set -o pipefail; {HOG}; echo $?"])
    assert done.stdout == "137\n"
    assert agent_of(machine) == agent


@pytest.mark.skipif(groups.is_unified(), reason="there, an agent beside an init stays with it")
@names
def test_commands_are_within_the_bounds_and_the_agent_is_not(small: Small, name: str) -> None:
    machine: MachineHandle = small[name]
    of_agent = machine.run(f"cat /proc/{agent_of(machine)}/cgroup").stdout
    of_command = machine.run("cat /proc/self/cgroup").stdout
    assert memory_group(of_command) != memory_group(of_agent)
