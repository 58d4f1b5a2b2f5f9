"""A virtual machine of another host's libvirt, and a machine here, in the order of the tests."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import time
from collections.abc import Iterator

import pytest

from pytest_carthage import Disk, Layout, Machine, Network, Vm
from pytest_carthage.errors import FabricError
from pytest_carthage.live.machines.machine import MachineHandle
from pytest_carthage.portal import Portal
from pytest_carthage.providers.libvirt import LibvirtProvider
from pytest_carthage.providers.netns import NetnsProvider
from tests.providers.conftest import DEBIAN
from tests.support.far import Far, far
from tests.support.layouts import building, end

pytestmark = [pytest.mark.real, pytest.mark.emulated, pytest.mark.timeout(900)]

LAN = Network("10.0.0.0/24")


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Far]:
    if problems := LibvirtProvider().check():
        pytest.skip("; ".join(map(str, problems)))
    with far(tmp_path_factory.mktemp("far")) as host:
        yield host


@pytest.fixture(scope="module")
def lab(host: Far, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Layout]:
    vm = Machine(
        DEBIAN.with_packages("python3"),
        on=Vm(
            uri=host.uri(),
            memory_mib=384,
            disks=(Disk(name="data", size_mib=16),),
            graphics=True,
        ),
        links={"eth0": LAN.at(".10")},
        ready_timeout_s=600,
    )
    near = Machine(on="netns", links={"eth0": LAN.at(".20")})
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.closing(Portal()) as portal,
        building(portal, {"libvirt": LibvirtProvider, "netns": NetnsProvider}) as build,
    ):
        patch.setenv("CARTHAGE_STATE", str(tmp_path_factory.mktemp("vm") / "state"))
        yield build(Layout.of("Lab", {"lan": LAN, "vm": vm, "near": near}))


@pytest.fixture
def vm(lab: Layout) -> MachineHandle:
    return lab["vm"]


@pytest.fixture
def near(lab: Layout) -> MachineHandle:
    return lab["near"]


def pings(machine: MachineHandle, address: str) -> bool:
    return machine.run(f"ping -c1 -W3 {address}", check=False).ok


def test_machine_runs_on_the_other_host_and_answers_here(host: Far, vm: MachineHandle) -> None:
    (name,) = host.domains()
    assert name.startswith("carthage-")
    assert vm.run("hostname").stdout.strip() == "vm"
    assert "root=/dev/vda" in vm.read_text("/proc/cmdline")
    vm.write_text("/srv/kept", "x" * 300_000)
    assert len(vm.read_text("/srv/kept")) == 300_000
    assert vm.run("cat /sys/block/vdc/serial").stdout.strip() == "data"


def test_machine_of_another_host_is_on_the_network_here(
    vm: MachineHandle, near: MachineHandle
) -> None:
    assert "10.0.0.10/24" in vm.run("ip -br addr show eth0").stdout
    assert pings(near, "vm")
    assert pings(vm, "near")
    with vm.link("lan").capture("icmp") as capture:
        assert pings(near, "10.0.0.10")
        assert capture.packets


def test_cable_to_another_host_is_pulled_and_plugged(
    vm: MachineHandle, near: MachineHandle
) -> None:
    carrier = "/sys/class/net/eth0/carrier"
    with vm.link("lan").down():
        assert vm.read_text(carrier).strip() == "0"
        assert not pings(near, "10.0.0.10")
    assert vm.read_text(carrier).strip() == "1"
    assert pings(near, "10.0.0.10")


def test_console_and_screen_come_from_the_other_host(vm: MachineHandle) -> None:
    assert "Linux version" in vm.logs()
    assert vm.screenshot().startswith(b"\x89PNG")


def test_screen_on_another_host_is_told_with_how_to_look_at_it(
    host: Far, lab: Layout, vm: MachineHandle
) -> None:
    (name,) = host.domains()
    with pytest.raises(FabricError, match="'vm' runs on another host, and its screen is") as told:
        LibvirtProvider().view(lab.aio.folder, "vm")
    command = shlex.join(["virt-viewer", "--connect", host.uri(), name])
    assert f"; try: {command}, or screenshot() in a test" in str(told.value)


def test_machine_that_reboots_on_another_host_is_on_the_network_again(
    vm: MachineHandle, near: MachineHandle
) -> None:
    before = vm.read_text("/proc/sys/kernel/random/boot_id")
    vm.reboot()
    assert vm.read_text("/proc/sys/kernel/random/boot_id") != before
    assert pings(near, "vm")


def test_way_to_another_host_that_is_cut_is_opened_again(
    host: Far, vm: MachineHandle, near: MachineHandle
) -> None:
    ways = host.ways()
    assert len(ways) == 2, "of who builds, and of the deputy"
    for pid in ways:
        os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 60
    while not pings(near, "10.0.0.10"):
        assert time.monotonic() < deadline
    assert vm.run("hostname").stdout.strip() == "vm"
    assert vm.screenshot().startswith(b"\x89PNG")
    assert not set(ways) & set(host.ways())


def test_what_is_not_made_there_is_told(vm: MachineHandle, host: Far) -> None:
    with pytest.raises(FabricError, match=r"a disk is plugged in while it runs only where its"):
        vm.plug_disk("more", size_mib=16)


def test_nothing_is_left_on_the_other_host(lab: Layout, host: Far) -> None:
    assert host.volumes()
    end(lab)
    assert (host.domains(), host.volumes()) == ([], [])
