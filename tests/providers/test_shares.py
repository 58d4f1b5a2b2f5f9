"""Machines with limits: what their programs see of memory and processors is theirs."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_carthage import Layout, Limits, Machine, Network, log
from pytest_carthage.live.machines.machine import MachineHandle
from pytest_carthage.portal import Portal
from pytest_carthage.providers.netns import NetnsProvider
from pytest_carthage.store.built import Built
from tests.providers.conftest import DEBIAN
from tests.support.layouts import Build, building

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user has no limits to give"),
    pytest.mark.skipif(not Path("/dev/fuse").exists(), reason="no /dev/fuse on this host"),
]

_MIB = 400
_CPUS = 0.5
#: of a field of meminfo
_FIELD = "awk '/^{}:/ {{print $2}}' /proc/meminfo"


class Small(Layout):
    """Machines that have less than their host."""

    lan = Network("10.0.0.0/24")
    few = Limits(memory_mib=_MIB, cpus=_CPUS)
    bare = Machine(links={"eth0": lan.at(".1")}, limits=few)
    plain = Machine(DEBIAN, links={"eth0": lan.at(".2")}, limits=few)
    booted = Machine(DEBIAN, links={"eth0": lan.at(".3")}, limits=few, init="systemd")


@pytest.fixture(scope="module")
def build(built: Built) -> Iterator[Build]:
    if problems := NetnsProvider().check():
        pytest.skip("; ".join(map(str, problems)))
    with (
        contextlib.closing(Portal()) as portal,
        building(portal, {"netns": NetnsProvider}) as build,
    ):
        yield build


@pytest.fixture(scope="module")
def small(build: Build) -> Small:
    return build(Small)


@pytest.fixture(params=["bare", "plain", "booted"])
def machine(request: pytest.FixtureRequest, small: Small) -> MachineHandle:
    found: MachineHandle = small[request.param]
    return found


def number(machine: MachineHandle, command: str) -> int:
    """What a command prints."""
    return int(machine.run(command).stdout)


def test_memory_is_that_of_the_limits(machine: MachineHandle) -> None:
    assert number(machine, _FIELD.format("MemTotal")) == _MIB << 10
    assert number(machine, "free -m | awk '/^Mem/ {print $2}'") == _MIB
    assert number(machine, _FIELD.format("SwapTotal")) == 0


def test_memory_that_is_taken_is_not_free(machine: MachineHandle) -> None:
    free = _FIELD.format("MemFree")
    before = number(machine, free)
    machine.run("head -c 100M /dev/zero > /dev/shm/taken")
    try:
        assert number(machine, free) < before - (90 << 10)
        assert number(machine, _FIELD.format("Shmem")) >= 100 << 10
    finally:
        machine.run("rm /dev/shm/taken")
    assert number(machine, free) > before - (50 << 10)


def test_shared_memory_is_half_of_it(machine: MachineHandle) -> None:
    assert number(machine, "df --output=size -k /dev/shm | tail -1") == _MIB << 9


@pytest.mark.parametrize(
    "command",
    [
        "nproc",
        "getconf _NPROCESSORS_ONLN",
        "grep -c ^processor /proc/cpuinfo",
        "grep -c '^cpu[0-9]' /proc/stat",
    ],
)
def test_processors_are_those_of_the_limits(machine: MachineHandle, command: str) -> None:
    assert number(machine, command) == min(math.ceil(_CPUS), len(os.sched_getaffinity(0)))


def test_files_are_read_as_any_and_not_written(machine: MachineHandle) -> None:
    whole = machine.run("cat /proc/meminfo").lines[0]
    apart = machine.run("dd if=/proc/meminfo bs=7 count=30 2>/dev/null | head -1").lines[0]
    assert apart == whole
    assert not machine.run("echo 1 > /proc/meminfo", check=False).ok


def test_machine_that_reads_all_the_time_is_frozen_and_started_again(
    small: Small, machine: MachineHandle
) -> None:
    reading = "while :; do cat /proc/meminfo /proc/meminfo; done >/dev/null 2>&1 &"
    machine.run(f"setsid sh -c '{reading}' >/dev/null 2>&1")
    with machine.freeze():
        assert number(small.bare if machine is not small.bare else small.plain, "nproc")
    machine.restart()
    assert number(machine, _FIELD.format("MemTotal")) == _MIB << 10


def test_console_is_the_machines_log(small: Small) -> None:
    for machine in (small.plain, small.booted):
        machine.run("echo said on the console > /dev/console")
        machine.wait_for(log("said on the console"))
