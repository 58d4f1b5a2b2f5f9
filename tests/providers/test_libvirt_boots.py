"""Machines that boot by a boot loader, with either firmware, and what they find in themselves."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest

from pytest_carthage import Disk, Image, Layout, Machine, Network, Vm
from pytest_carthage.live.machines.machine import MachineHandle
from pytest_carthage.planning import make_plan
from pytest_carthage.portal import Portal
from pytest_carthage.providers.libvirt import LibvirtProvider
from tests.support.layouts import building

pytestmark = [pytest.mark.real, pytest.mark.emulated, pytest.mark.timeout(900)]

DEBIAN = Image.debian(
    "bookworm",
    packages=[
        *("systemd-sysv", "dbus", "udev", "iproute2", "iputils-ping", "python3", "kmod"),
        *("openssh-server", "procps", "ca-certificates", "acpid"),
    ],
).with_(name="base")
_WAIT_S = 500
_XML = """
<devices><watchdog model='i6300esb' action='none'/></devices>
<qemu:commandline>
  <qemu:arg value='-smbios'/><qemu:arg value='type=11,value=told-by-the-author'/>
</qemu:commandline>
"""
_DISKS = (Disk(name="data", size_mib=24), Disk(name="more", size_mib=40))


class Bios(Layout):
    lan = Network("10.32.0.0/24")
    box = Machine(
        DEBIAN,
        on=Vm(boot="disk", machine="pc", disks=_DISKS, xml=_XML),
        links={"lan0": lan.at(".1")},
        ready_timeout_s=_WAIT_S,
    )


class Uefi(Layout):
    lan = Network("10.32.0.0/24")
    box = Machine(
        DEBIAN,
        on=Vm(
            boot="disk",
            machine="q35",
            firmware="uefi",
            tpm=True,
            disks=_DISKS,
            xml=_XML,
        ),
        links={"lan0": lan.at(".1")},
        ready_timeout_s=_WAIT_S,
    )


@pytest.fixture(scope="module", params=[Bios, Uefi])
def layout(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patch, contextlib.closing(Portal()) as portal:
        patch.setenv("CARTHAGE_STATE", str(tmp_path_factory.mktemp("state")))
        provider = LibvirtProvider()
        plan = make_plan(request.param, targets={"libvirt": provider.traits})
        if problems := provider.check(plan):
            pytest.skip("; ".join(map(str, problems)))
        with building(portal, {"libvirt": lambda: provider}) as build:
            yield build(request.param)


@pytest.fixture
def box(layout: Any) -> MachineHandle:
    machine: MachineHandle = layout.box
    return machine


def _printed(machine: MachineHandle, command: str) -> str:
    return machine.run(command).stdout.strip()


def test_boot_loader_has_loaded_the_kernel(box: MachineHandle) -> None:
    words = box.read_text("/proc/cmdline").split()
    assert words[0] == f"BOOT_IMAGE=/boot/vmlinuz-{_printed(box, 'uname -r')}"
    assert _printed(box, "findmnt -no SOURCE /") == "/dev/vda3"


def test_machine_has_the_firmware_and_the_type_that_it_asks_for(
    box: MachineHandle, layout: Any
) -> None:
    product = box.read_text("/sys/class/dmi/id/product_name")
    firmware = box.run("test -d /sys/firmware/efi", check=False).ok
    if isinstance(layout, Uefi):
        assert firmware
        assert "Q35" in product
    else:
        assert not firmware
        assert "i440FX" in product


def test_machine_has_a_tpm_if_it_asks_for_one(box: MachineHandle, layout: Any) -> None:
    version = box.run("cat /sys/class/tpm/tpm0/tpm_version_major", check=False)
    assert version.stdout.strip() == ("2" if isinstance(layout, Uefi) else "")
    assert box.run("test -c /dev/tpm0", check=False).ok is isinstance(layout, Uefi)


def test_further_disks_are_found_by_their_names(box: MachineHandle) -> None:
    sizes = _printed(
        box,
        "for d in data more; do cat /sys/block/$(basename $(readlink "
        "/dev/disk/by-id/virtio-$d))/size; done",
    )
    assert sizes.split() == [str(24 << 11), str(40 << 11)]


def test_what_the_author_has_said_in_xml_is_seen_by_the_machine(box: MachineHandle) -> None:
    assert "0x8086:0x25ab" in _printed(
        box, "for d in /sys/bus/pci/devices/*; do echo $(cat $d/vendor):$(cat $d/device); done"
    )
    assert "told-by-the-author" in box.run("cat /sys/firmware/dmi/tables/DMI | tr -dc a-z-").stdout


def test_machine_is_on_its_network(box: MachineHandle) -> None:
    assert "10.32.0.1/24" in _printed(box, "ip -br addr show lan0")
