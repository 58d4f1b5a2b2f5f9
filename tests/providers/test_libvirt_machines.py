"""One virtual machine and one machine of namespaces on one network, in the order of the tests."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_carthage import Layout, Machine, Network, Vm
from pytest_carthage.errors import FabricError
from pytest_carthage.live.machines.machine import MachineHandle
from pytest_carthage.portal import Portal
from pytest_carthage.providers.libvirt import LibvirtProvider, host
from pytest_carthage.providers.netns import NetnsProvider
from tests.providers.conftest import DEBIAN
from tests.support.layouts import building

pytestmark = [pytest.mark.real, pytest.mark.timeout(900)]

LAN = Network("10.0.0.0/24")


class Lab(Layout):
    """Two kinds of machines, which do not know the difference."""

    lan = LAN
    vm = Machine(
        DEBIAN.with_packages("python3"),
        on=Vm(memory_mib=384),
        links={"eth0": LAN.at(".10")},
        ready_timeout_s=600,
    )
    near = Machine(on="netns", links={"eth0": LAN.at(".20")})


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    if problems := LibvirtProvider().check():
        pytest.skip("; ".join(map(str, problems)))
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.closing(Portal()) as portal,
        building(portal, {"libvirt": LibvirtProvider, "netns": NetnsProvider}) as build,
    ):
        patch.setenv("CARTHAGE_STATE", str(tmp_path_factory.mktemp("vm") / "state"))
        yield build(Lab)


@pytest.fixture
def vm(lab: Lab) -> MachineHandle:
    return lab["vm"]


@pytest.fixture
def near(lab: Lab) -> MachineHandle:
    return lab["near"]


def pings(machine: MachineHandle, address: str) -> bool:
    return machine.run(f"ping -c1 -W3 {address}", check=False).ok


def test_kernel_loads_what_it_is_asked_for_where_the_image_has_no_modprobe(
    vm: MachineHandle,
) -> None:
    """nftables and its like ask by the number of a protocol, which is netfilter's here."""
    assert not vm.run("command -v modprobe", check=False).ok
    vm.run("python3 -c 'import socket; socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12)'")


def test_virtual_machine_has_a_kernel_a_name_and_an_address_of_its_own(vm: MachineHandle) -> None:
    assert vm.run("hostname").stdout.strip() == "vm"
    assert "10.0.0.10/24" in vm.run("ip -br addr show eth0").stdout
    assert "root=/dev/vda" in vm.read_text("/proc/cmdline")


def test_machines_of_two_kinds_reach_each_other_by_name(
    vm: MachineHandle, near: MachineHandle
) -> None:
    assert pings(near, "vm")
    assert pings(vm, "near")


def test_capture_has_what_passes_the_link_of_a_virtual_machine(
    vm: MachineHandle, near: MachineHandle
) -> None:
    with vm.link("lan").capture("icmp") as capture:
        assert pings(near, "10.0.0.10")
        assert capture.packets


def test_pulled_cable_is_seen_by_the_kernel_of_a_virtual_machine(
    vm: MachineHandle, near: MachineHandle
) -> None:
    carrier = "/sys/class/net/eth0/carrier"
    with vm.link("lan").down():
        assert vm.read_text(carrier).strip() == "0"
        assert not pings(near, "10.0.0.10")
    assert vm.read_text(carrier).strip() == "1"
    assert pings(near, "10.0.0.10")


def test_partition_cuts_a_virtual_machine_off(
    lab: Lab, vm: MachineHandle, near: MachineHandle
) -> None:
    with lab.partition("vm", "near"):
        assert not pings(vm, "10.0.0.20")
    assert pings(vm, "10.0.0.20")


def test_frozen_virtual_machine_does_not_even_answer_pings(
    vm: MachineHandle, near: MachineHandle
) -> None:
    with vm.freeze():
        assert not pings(near, "10.0.0.10")
    assert vm.run("true").ok


def test_disk_is_plugged_in_and_pulled_out(vm: MachineHandle) -> None:
    vm.plug_disk("data", size_mib=16)
    vm.run("until grep -q data /sys/block/vd*/serial; do sleep 0.1; done", timeout_s=60)
    with pytest.raises(FabricError, match="it has a disk 'data' already"):
        vm.plug_disk("data", size_mib=16)
    vm.unplug_disk("data")
    assert not vm.run("grep data /sys/block/vd*/serial", check=False).ok
    with pytest.raises(FabricError, match="it has no disk 'data', but carthage-seed"):
        vm.unplug_disk("data")


def test_large_file_goes_to_a_virtual_machine_by_its_disk(
    vm: MachineHandle, tmp_path: Path
) -> None:
    size = 3 << 20
    content = os.urandom(size + 5)
    (tmp_path / "large").write_bytes(content)
    before = sectors_read(vm)
    there = ("/srv/large", "/dev/shm/large")  # no file in memory is written past all caches
    for path in there:
        vm.put(tmp_path / "large", path)
    assert (sectors_read(vm) - before) * 512 >= len(there) * size
    sums = vm.run(["sha256sum", *there]).stdout.split()
    assert sums[::2] == [hashlib.sha256(content).hexdigest()] * len(there)


def sectors_read(vm: MachineHandle) -> int:
    """Of the disk that tells it who it is."""
    return int(vm.read_text("/sys/block/vdb/stat").split()[2])


def test_programs_of_an_emulated_machine_lie_where_they_lay(vm: MachineHandle) -> None:
    maps = {vm.run(["cat", "/proc/self/maps"]).stdout for _ in range(3)}
    assert (len(maps) == 1) == (host.acceleration().kind != "kvm")


def test_virtual_machine_that_reboots_has_its_files_and_another_boot(vm: MachineHandle) -> None:
    before = vm.read_text("/proc/sys/kernel/random/boot_id")
    vm.write_text("/srv/kept", "x")
    vm.reboot()
    assert vm.read_text("/proc/sys/kernel/random/boot_id") != before
    assert vm.read_text("/srv/kept") == "x"
    assert "10.0.0.10/24" in vm.run("ip -br addr show eth0").stdout


def test_kernel_that_panics_is_told_at_once_with_the_console(vm: MachineHandle) -> None:
    with pytest.raises(FabricError) as caught:
        vm.run("echo 1 > /proc/sys/kernel/sysrq; echo c > /proc/sysrq-trigger; sleep 60")
    text = str(caught.value)
    assert "machine 'vm' of layout 'Lab': its kernel panicked at " in text
    assert "Kernel panic - not syncing: sysrq triggered crash" in text
    with pytest.raises(FabricError, match=r"(?s)its kernel panicked at .*; try: start\(\)"):
        vm.run("true")
