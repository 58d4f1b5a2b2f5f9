"""A planned machine as libvirt takes it: see https://libvirt.org/formatdomain.html."""

from __future__ import annotations

import platform
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree as XML

from pytest_carthage.placing.cards import Card, cards

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_carthage.model.vm import Vm
    from pytest_carthage.planning.plan import PlannedMachine
    from pytest_carthage.provider import Identity
    from pytest_carthage.providers.libvirt.host import Acceleration

__all__ = ["AGENT", "Booting", "Hardware", "Places", "disk_xml", "domain_xml", "interface_xml"]

#: name of the port that our agent in the machine listens on
AGENT = "org.pytest-carthage.agent"
_GUEST_AGENT = "org.qemu.guest_agent.0"
_QEMU = "http://libvirt.org/schemas/domain/qemu/1.0"
#: what an emulated processor keeps of what it has translated: of as much as it likes it takes
#: 350 MiB more
_TRANSLATED_MIB = 96

XML.register_namespace("qemu", _QEMU)


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where the files of one machine are; for QEMU its sockets have a short path."""

    folder: Path
    #: the folder as QEMU sees it
    short: str
    #: what its console prints
    log: Path

    @property
    def disk(self) -> Path:
        """The disk that it starts from: what it writes, above an image's."""
        return self.folder / "disk.qcow2"

    @property
    def seed(self) -> Path:
        """The disk that tells it who it is."""
        return self.folder / "seed.img"

    @property
    def agent(self) -> Path:
        """The socket behind which our agent in it listens."""
        return self.folder / "agent.sock"

    def further(self, name: str) -> Path:
        """A disk beside those."""
        return self.folder / f"disk-{name}.qcow2"


@dataclass(frozen=True, slots=True, kw_only=True)
class Booting:
    """What QEMU loads; without a kernel what stands on the disk."""

    kernel: Path | None = None
    initrd: Path | None = None
    append: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardware:
    """What this host gives."""

    acceleration: Acceleration
    emulator: str


def domain_xml(
    planned: PlannedMachine,
    vm: Vm,
    *,
    identity: Identity,
    places: Places,
    booting: Booting,
    hardware: Hardware,
) -> str:
    """Describe the domain of a machine.

    :raises ValueError: its own XML is none.
    """
    machine = platform.machine()
    is_x86 = machine == "x86_64"
    root = XML.Element("domain", type=hardware.acceleration.kind)
    _text(root, "name", planned.name)
    _text(root, "uuid", uuid_of(identity, planned.name))
    _text(root, "genid", str(uuid.uuid4()))
    _text(root, "memory", str(vm.memory_mib), unit="MiB")
    _text(root, "vcpu", str(vm.cpus))
    root.append(_os(vm, booting, machine))
    features = XML.SubElement(root, "features")
    XML.SubElement(features, "acpi")
    if is_x86:
        XML.SubElement(features, "apic")
    if hardware.acceleration.kind == "kvm":
        XML.SubElement(root, "cpu", mode="host-passthrough", check="none", migratable="on")
    else:
        tcg = XML.SubElement(features, "tcg")
        _text(tcg, "tb-cache", str(_TRANSLATED_MIB), unit="MiB")
        cpu = XML.SubElement(root, "cpu", mode="custom", match="exact", check="none")
        _text(cpu, "model", "qemu64" if is_x86 else "cortex-a57", fallback="forbid")
    XML.SubElement(root, "clock", offset="utc")
    for name, what in (("poweroff", "destroy"), ("reboot", "restart"), ("crash", "destroy")):
        _text(root, f"on_{name}", what)
    root.append(_devices(planned, vm, places, hardware, is_x86=is_x86))
    if vm.xml is not None:
        _merge(root, vm.xml)
    XML.indent(root)
    return XML.tostring(root, encoding="unicode")


def uuid_of(identity: Identity, name: str) -> str:
    """What libvirt calls the machine, which no other one is called anywhere."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, f"{identity.run}/{identity.environment}/{name}"))


def _text(parent: XML.Element, tag: str, text: str, **attributes: str) -> XML.Element:
    element = XML.SubElement(parent, tag, attributes)
    element.text = text
    return element


def _os(vm: Vm, booting: Booting, machine: str) -> XML.Element:
    attributes = {"firmware": "efi"} if vm.firmware == "uefi" else {}
    os = XML.Element("os", attributes)
    kind = vm.machine or ("pc" if machine == "x86_64" else "virt")
    _text(os, "type", "hvm", arch=machine, machine=kind)
    if vm.firmware == "uefi":
        firmware = XML.SubElement(os, "firmware")
        XML.SubElement(firmware, "feature", enabled="no", name="secure-boot")
    if booting.kernel is not None:
        _text(os, "kernel", str(booting.kernel))
        if booting.initrd is not None:
            _text(os, "initrd", str(booting.initrd))
        # a kernel that panics must not stand there: it is seen that it has
        _text(os, "cmdline", f"{booting.append} panic=-1".strip())
    else:
        XML.SubElement(os, "boot", dev="hd")
    return os


def _devices(
    planned: PlannedMachine, vm: Vm, places: Places, hardware: Hardware, *, is_x86: bool
) -> XML.Element:
    devices = XML.Element("devices")
    _text(devices, "emulator", hardware.emulator)
    devices.append(_disk(places.disk, "vda"))
    devices.append(_disk(places.seed, "vdb", kind="raw", serial="carthage-seed", read_only=True))
    for number, disk in enumerate(vm.disks):
        target = f"vd{chr(ord('c') + number)}"
        devices.append(_disk(places.further(disk.name), target, serial=disk.name))
    devices.extend(_interface(card) for card in cards(planned))
    devices.extend(_consoles(places))
    for name, socket in ((AGENT, "agent"), (_GUEST_AGENT, "qga")):
        channel = XML.SubElement(devices, "channel", type="unix")
        XML.SubElement(channel, "source", mode="bind", path=f"{places.short}/{socket}.sock")
        XML.SubElement(channel, "target", type="virtio", name=name)
    rng = XML.SubElement(devices, "rng", model="virtio")
    _text(rng, "backend", "/dev/urandom", model="random")
    if is_x86:
        XML.SubElement(devices, "panic", model="isa")
    XML.SubElement(devices, "memballoon", model="none")
    XML.SubElement(devices, "controller", type="usb", model="none")
    if vm.tpm:
        tpm = XML.SubElement(devices, "tpm", model="tpm-crb" if is_x86 else "tpm-tis")
        XML.SubElement(tpm, "backend", type="emulator", version="2.0")
    if vm.graphics:
        XML.SubElement(devices, "graphics", type="vnc", socket=f"{places.short}/vnc.sock")
        video = XML.SubElement(devices, "video")
        XML.SubElement(video, "model", type="vga" if is_x86 else "virtio")
    return devices


def _consoles(places: Places) -> Sequence[XML.Element]:
    serial = XML.Element("serial", type="unix")
    XML.SubElement(serial, "source", mode="bind", path=f"{places.short}/serial.sock")
    XML.SubElement(serial, "log", file=str(places.log), append="on")
    XML.SubElement(serial, "target", port="0")
    return [serial]


def _disk(
    path: Path, target: str, *, kind: str = "qcow2", serial: str = "", read_only: bool = False
) -> XML.Element:
    disk = XML.Element("disk", type="file", device="disk")
    # all of it is thrown away: what the machine has flushed need not be on the host's disk
    XML.SubElement(disk, "driver", name="qemu", type=kind, cache="unsafe", discard="unmap")
    XML.SubElement(disk, "source", file=str(path))
    XML.SubElement(disk, "target", dev=target, bus="virtio")
    if serial:
        _text(disk, "serial", serial)
    if read_only:
        XML.SubElement(disk, "readonly")
    return disk


def disk_xml(path: Path, target: str, serial: str) -> str:
    """Describe a disk that is plugged into a machine that runs."""
    return XML.tostring(_disk(path, target, serial=serial), encoding="unicode")


def _interface(card: Card) -> XML.Element:
    interface = XML.Element("interface", type="ethernet")
    XML.SubElement(interface, "mac", address=card.mac)
    # the fabric has made it, on the network's bridge, and removes it
    XML.SubElement(interface, "target", dev=card.port, managed="no")
    XML.SubElement(interface, "model", type="virtio")
    if card.mtu is not None:
        XML.SubElement(interface, "mtu", size=str(card.mtu))
    return interface


def interface_xml(card: Card) -> str:
    """Describe an interface that is plugged into a machine that runs, or out of it."""
    return XML.tostring(_interface(card), encoding="unicode")


def _merge(root: XML.Element, text: str) -> None:
    """Take in an author's own XML: devices are added, and other elements replace ours."""
    from pytest_carthage.model.vm import xml_elements

    devices = root.find("devices")
    assert devices is not None
    for element in xml_elements(text):
        if element.tag == "devices":
            devices.extend(element)
            continue
        for ours in root.findall(element.tag):
            root.remove(ours)
        root.append(element)
