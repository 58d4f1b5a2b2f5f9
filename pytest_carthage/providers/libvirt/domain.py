"""A planned machine as libvirt takes it: see https://libvirt.org/formatdomain.html."""

from __future__ import annotations

import json
import platform
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from pytest_carthage.placing.cards import Card, cards

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_carthage.model.vm import Vm
    from pytest_carthage.planning.plan import PlannedMachine
    from pytest_carthage.provider import Identity
    from pytest_carthage.providers.libvirt.host import Acceleration

__all__ = [
    "AGENT",
    "SCREEN",
    "Booting",
    "Hardware",
    "Places",
    "disk_xml",
    "domain_xml",
    "interface_at",
    "interface_xml",
    "merge",
    "uuid_of",
]

#: of a machine's folder: the socket at which its screen speaks VNC
SCREEN = "vnc.sock"
#: name of the port that our agent in the machine listens on
AGENT = "org.pytest-carthage.agent"
_GUEST_AGENT = "org.qemu.guest_agent.0"
#: number of the last port of virtio-serial, which libvirt gives to nobody
_LAST_PORT = 30
_QEMU = "http://libvirt.org/schemas/domain/qemu/1.0"
#: what an emulated processor keeps of what it has translated: of as much as it likes it takes
#: 350 MiB more
_TRANSLATED_MIB = 96

#: modules that a guest's udev finds hardware for, which does nothing there: the controller of IDE
#: disks with the layers below it, speeds of a processor. Loading them takes a twentieth of a boot
_UNUSED = ("ata_generic", "ata_piix", "powernow_k8")
#: for a kernel whose processor is emulated: a library that lies elsewhere in each process is
#: translated anew for each, which takes two thirds of the time that a small program takes
_SAME_PLACES = "norandmaps"
#: of PCI Express, for what is plugged in later
_FREE_PORTS = 4

ElementTree.register_namespace("qemu", _QEMU)


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
    def guest_agent(self) -> Path:
        """The socket behind which QEMU's guest agent listens, where there is one."""
        return self.folder / "qga.sock"

    @property
    def way(self) -> Path:
        """What says by which ways it is asked."""
        return self.folder / "way.json"

    @property
    def agent(self) -> Path:
        """The socket behind which our agent in it listens."""
        return self.folder / "agent.sock"

    @property
    def serial(self) -> Path:
        """The socket that its serial port connects to."""
        return self.folder / "serial.sock"

    @property
    def picture(self) -> Path:
        """What its screen showed when it did not start, beside its log."""
        return self.log.with_suffix(".png")

    @property
    def screen(self) -> Path:
        """The socket at which its screen speaks VNC."""
        return self.folder / SCREEN

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
    asks_guest_agent: bool = False,
) -> str:
    """Describe the domain of a machine.

    :param asks_guest_agent: whether we ask QEMU's guest agent, in place of libvirt.
    :raises ValueError: its own XML is none.
    """
    machine = platform.machine()
    is_x86 = machine == "x86_64"
    root = ElementTree.Element("domain", type=hardware.acceleration.kind)
    _text(root, "name", planned.name)
    _text(root, "uuid", uuid_of(identity, planned.name))
    _text(root, "genid", str(uuid.uuid4()))
    _text(root, "memory", str(vm.memory_mib), unit="MiB")
    _text(root, "vcpu", str(vm.cpus))
    root.append(_os(vm, booting, machine, is_emulated=hardware.acceleration.kind != "kvm"))
    features = ElementTree.SubElement(root, "features")
    ElementTree.SubElement(features, "acpi")
    if is_x86:
        ElementTree.SubElement(features, "apic")
    if hardware.acceleration.kind == "kvm":
        ElementTree.SubElement(root, "cpu", mode="host-passthrough", check="none", migratable="on")
    else:
        tcg = ElementTree.SubElement(features, "tcg")
        _text(tcg, "tb-cache", str(_TRANSLATED_MIB), unit="MiB")
        cpu = ElementTree.SubElement(root, "cpu", mode="custom", match="exact", check="none")
        _text(cpu, "model", "qemu64" if is_x86 else "cortex-a57", fallback="forbid")
        if is_x86:  # else a guest's udev loads KVM, twice as large as all other modules of it
            ElementTree.SubElement(cpu, "feature", policy="disable", name="svm")
    ElementTree.SubElement(root, "clock", offset="utc")
    for name, what in (("poweroff", "destroy"), ("reboot", "restart"), ("crash", "destroy")):
        _text(root, f"on_{name}", what)
    root.append(_devices(planned, vm, places, hardware, is_x86=is_x86))
    if asks_guest_agent:
        _take_guest_agent(root, places)
    if vm.xml is not None:
        merge(root, vm.xml)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode")


def uuid_of(identity: Identity, name: str) -> str:
    """What libvirt calls the machine, which no other one is called anywhere."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, f"{identity.run}/{identity.environment}/{name}"))


def _text(
    parent: ElementTree.Element, tag: str, text: str, **attributes: str
) -> ElementTree.Element:
    element = ElementTree.SubElement(parent, tag, attributes)
    element.text = text
    return element


def _os(vm: Vm, booting: Booting, machine: str, *, is_emulated: bool) -> ElementTree.Element:
    attributes = {"firmware": "efi"} if vm.firmware == "uefi" else {}
    os = ElementTree.Element("os", attributes)
    kind = vm.machine or ("pc" if machine == "x86_64" else "virt")
    _text(os, "type", "hvm", arch=machine, machine=kind)
    if vm.firmware == "uefi":
        firmware = ElementTree.SubElement(os, "firmware")
        ElementTree.SubElement(firmware, "feature", enabled="no", name="secure-boot")
    if booting.kernel is not None:
        _text(os, "kernel", str(booting.kernel))
        if booting.initrd is not None:
            _text(os, "initrd", str(booting.initrd))
        # a kernel that panics must not stand there: it is seen that it has
        words = [booting.append, "panic=-1"]
        if vm.xml is None:  # else a device may be of their kind
            words.append(f"modprobe.blacklist={','.join(_UNUSED)}")
        if is_emulated:
            words.append(_SAME_PLACES)
        _text(os, "cmdline", " ".join(words).strip())
    else:
        ElementTree.SubElement(os, "boot", dev="hd")
    return os


def _devices(
    planned: PlannedMachine, vm: Vm, places: Places, hardware: Hardware, *, is_x86: bool
) -> ElementTree.Element:
    devices = ElementTree.Element("devices")
    _text(devices, "emulator", hardware.emulator)
    devices.append(_disk(places.disk, "vda"))
    devices.append(_disk(places.seed, "vdb", kind="raw", serial="carthage-seed", read_only=True))
    for number, disk in enumerate(vm.disks):
        target = f"vd{chr(ord('c') + number)}"
        devices.append(_disk(places.further(disk.name), target, serial=disk.name))
    devices.extend(_interface(card) for card in cards(planned))
    devices.extend(_consoles(places))
    for name, socket in ((AGENT, "agent"), (_GUEST_AGENT, "qga")):
        channel = ElementTree.SubElement(devices, "channel", type="unix")
        ElementTree.SubElement(channel, "source", mode="bind", path=f"{places.short}/{socket}.sock")
        ElementTree.SubElement(channel, "target", type="virtio", name=name)
    rng = ElementTree.SubElement(devices, "rng", model="virtio")
    _text(rng, "backend", "/dev/urandom", model="random")
    if is_x86:
        ElementTree.SubElement(devices, "panic", model="isa")
    if vm.machine == "q35":  # else nothing can be plugged in while it runs
        # which libvirt adds only where it is told of no other one
        ElementTree.SubElement(devices, "controller", type="pci", index="0", model="pcie-root")
        for _ in range(_FREE_PORTS):
            ElementTree.SubElement(devices, "controller", type="pci", model="pcie-root-port")
    ElementTree.SubElement(devices, "memballoon", model="none")
    ElementTree.SubElement(devices, "controller", type="usb", model="none")
    if vm.tpm:
        tpm = ElementTree.SubElement(devices, "tpm", model="tpm-crb" if is_x86 else "tpm-tis")
        ElementTree.SubElement(tpm, "backend", type="emulator", version="2.0")
    if vm.graphics:
        screen = f"{places.short}/{places.screen.name}"
        ElementTree.SubElement(devices, "graphics", type="vnc", socket=screen)
        video = ElementTree.SubElement(devices, "video")
        ElementTree.SubElement(video, "model", type="vga" if is_x86 else "virtio")
    return devices


def _take_guest_agent(root: ElementTree.Element, places: Places) -> None:
    """Have the port of the guest agent be ours: one at a time is connected to it, and libvirt stays
    so with each that it knows of."""
    devices = root.find("devices")
    assert devices is not None
    for channel in devices.findall("channel"):
        target = channel.find("target")
        if target is not None and target.get("name") == _GUEST_AGENT:
            devices.remove(channel)
    line = ElementTree.SubElement(root, f"{{{_QEMU}}}commandline")
    socket = f"{places.short}/{places.guest_agent.name}"
    port = {
        "driver": "virtserialport",
        "bus": "virtio-serial0.0",
        "nr": _LAST_PORT,
        "chardev": "guest-agent",
        "name": _GUEST_AGENT,
    }
    for argument in (
        "-chardev",
        f"socket,id=guest-agent,path={socket},server=on,wait=off",
        "-device",
        # QEMU makes what is told as JSON last: libvirt has told it of the bus so
        json.dumps(port),
    ):
        ElementTree.SubElement(line, f"{{{_QEMU}}}arg", value=argument)


def _consoles(places: Places) -> Sequence[ElementTree.Element]:
    # the recorder of consoles listens there, and comes back if it was killed
    serial = ElementTree.Element("serial", type="unix")
    path = f"{places.short}/{places.serial.name}"
    source = ElementTree.SubElement(serial, "source", mode="connect", path=path)
    ElementTree.SubElement(source, "reconnect", enabled="yes", timeout="1")
    ElementTree.SubElement(serial, "target", port="0")
    return [serial]


def _disk(
    path: Path, target: str, *, kind: str = "qcow2", serial: str = "", read_only: bool = False
) -> ElementTree.Element:
    disk = ElementTree.Element("disk", type="file", device="disk")
    # all of it is thrown away: what the machine has flushed need not be on the host's disk
    ElementTree.SubElement(disk, "driver", name="qemu", type=kind, cache="unsafe", discard="unmap")
    ElementTree.SubElement(disk, "source", file=str(path))
    ElementTree.SubElement(disk, "target", dev=target, bus="virtio")
    if serial:
        _text(disk, "serial", serial)
    if read_only:
        ElementTree.SubElement(disk, "readonly")
    return disk


def disk_xml(path: Path, target: str, serial: str) -> str:
    """Describe a disk that is plugged into a machine that runs."""
    return ElementTree.tostring(_disk(path, target, serial=serial), encoding="unicode")


def _interface(card: Card) -> ElementTree.Element:
    interface = ElementTree.Element("interface", type="ethernet")
    ElementTree.SubElement(interface, "mac", address=card.mac)
    # the fabric has made it, on the network's bridge, and removes it
    ElementTree.SubElement(interface, "target", dev=card.port, managed="no")
    ElementTree.SubElement(interface, "model", type="virtio")
    if card.mtu is not None:
        ElementTree.SubElement(interface, "mtu", size=str(card.mtu))
    return interface


def interface_xml(card: Card) -> str:
    """Describe an interface that is plugged into a machine that runs, or out of it."""
    return ElementTree.tostring(_interface(card), encoding="unicode")


def interface_at(domain: str, port: str) -> ElementTree.Element:
    """The interface of a domain, given as XML, that ends in a tap.

    :raises LookupError: it has none there.
    """
    for interface in ElementTree.fromstring(domain).iterfind("devices/interface"):
        target = interface.find("target")
        if target is not None and target.get("dev") == port:
            return interface
    raise LookupError(f"it has no interface at {port}")


def merge(root: ElementTree.Element, text: str) -> None:
    """Take in an author's own XML: devices are added, and other elements replace ours."""
    from pytest_carthage.model.vm import xml_elements

    devices = root.find("devices")
    assert devices is not None
    for element in xml_elements(text):
        if element.tag == "devices":
            devices.extend(element)
            continue
        for ours in root.findall(element.tag):
            if element.tag == f"{{{_QEMU}}}commandline":
                element.extend(ours)
            root.remove(ours)
        root.append(element)
