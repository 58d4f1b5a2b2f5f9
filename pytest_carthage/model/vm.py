"""Virtual machines: what a machine tells a hypervisor."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

from pytest_carthage.model.mistakes.declaring import declared
from pytest_carthage.model.mistakes.value import shown
from pytest_carthage.model.on import On

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

__all__ = ["Disk", "Vm", "xml_elements"]

Chipset = Literal["pc", "q35"]
Firmware = Literal["bios", "uefi"]
Boot = Literal["kernel", "disk"]
Way = Literal["agent", "ssh", "guest-agent"]

_CHOICES: Mapping[str, tuple[tuple[str, ...], bool]] = MappingProxyType(
    {
        "machine": (get_args(Chipset), True),
        "firmware": (get_args(Firmware), False),
        "boot": (get_args(Boot), True),
        "way": (get_args(Way), True),
    }
)
_LEAST_MEMORY_MIB, _MOST_MEMORY_MIB = 64, 16 << 20
_MOST_CPUS = 255  # QEMU's limit for pc, and for q35 without an interrupt remapper
_MOST_DISK_MIB = 64 << 20
_MOST_DISKS = 20
_SERIAL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,19}", re.ASCII)  # VIRTIO_BLK_ID_BYTES
#: options, kind, key and comment, see sshd(8)
_KEY = re.compile(r"[^\s#][^\n\r\0]*[a-z0-9@.-]+ [A-Za-z0-9+/=]{16,}( [^\n\r\0]*)?", re.ASCII)
_RESERVED = "carthage-"
_QEMU = "http://libvirt.org/schemas/domain/qemu/1.0"
#: elements of a domain that have settings of their own, or are nobody's to choose
_SET_BY_US: Mapping[str, str] = MappingProxyType(
    {
        "name": "leave it out: it is the machine's",
        "uuid": "leave it out: it is the machine's",
        "memory": "Vm(memory_mib=...)",
        "currentMemory": "Vm(memory_mib=...)",
        "vcpu": "Vm(cpus=...)",
    }
)


@declared("disk")
@dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """An empty disk, beside the one that a virtual machine starts from.

    Its name is its serial number: ``/dev/disk/by-id/virtio-NAME`` in the machine.
    """

    name: str
    size_mib: int

    def wrong_values(self) -> Iterator[tuple[str, str]]:
        """What is wrong with its values, and what can be written instead."""
        name: object = self.name
        if not isinstance(name, str) or not _SERIAL.fullmatch(name):
            yield (
                f"disk name {shown(name)} is not 1 to 20 letters, digits, _ and inner -",
                'Disk(name="data", size_mib=1024)',
            )
        elif name.startswith(_RESERVED):
            yield f"disk name {name!r} is one of our own", f'name="{name.removeprefix(_RESERVED)}"'
        yield from _number("disk size_mib", self.size_mib, 1, _MOST_DISK_MIB, "size_mib=1024")


@declared("vm")
@dataclass(frozen=True, slots=True, kw_only=True)
class Vm(On):
    """A virtual machine of libvirt: ``Machine(image, on=Vm(memory_mib=1024, cpus=2))``.

    ``on="libvirt"`` is one with these defaults.
    """

    target: ClassVar[str] = "libvirt"
    instead: ClassVar[Mapping[str, str]] = MappingProxyType(
        {"limits": "on=Vm(memory_mib=..., cpus=...), which it cannot exceed"}
    )

    memory_mib: int = 512
    cpus: int = 1
    #: the machine type; None: the one that suits the host
    machine: Chipset | None = None
    firmware: Firmware = "bios"
    #: ``"kernel"``: QEMU loads the image's kernel; ``"disk"``: a boot loader on its disk does.
    #: None: the disk's own boot loader where the image is a disk, else the kernel
    boot: Boot | None = None
    #: a TPM 2.0 (swtpm)
    tpm: bool = False
    disks: tuple[Disk, ...] = ()
    #: a graphical console, for ``screenshot()`` and ``pytest-carthage view``
    graphics: bool = False
    #: the way in; None: the first of agent, ssh and guest-agent that the machine has
    way: Way | None = None
    #: who may log in by ssh, as root and as a cloud image's own user: lines of authorized_keys, see
    #: sshd(8)
    authorized_keys: tuple[str, ...] = ()
    #: a libvirt of yours, as ``"qemu+ssh://root@big.lab/system"``, where a domain and volumes of
    #: this machine's own are made, and removed; None: one of the environment's
    uri: str | None = None
    #: the storage pool of that one which its disks are made in; None: ``default``, or the only one
    pool: str | None = None
    #: elements of ``<domain>`` for the rest, see https://libvirt.org/formatdomain.html: those of
    #: ``<devices>`` are added to its devices, and others take the place of what it has
    xml: str | None = None

    def __post_init__(self) -> None:
        disks: object = self.disks
        if isinstance(disks, Disk):
            object.__setattr__(self, "disks", (disks,))
        elif isinstance(disks, list):
            object.__setattr__(self, "disks", tuple(disks))
        keys: object = self.authorized_keys
        if isinstance(keys, str):
            keys = (keys,)
        if isinstance(keys, list | tuple):
            keys = tuple(key.strip() if isinstance(key, str) else key for key in keys)
            object.__setattr__(self, "authorized_keys", keys)

    def wrong_values(self) -> Iterator[tuple[str, str]]:
        """What is wrong with its values, and what can be written instead."""
        yield from _number(
            "vm memory_mib", self.memory_mib, _LEAST_MEMORY_MIB, _MOST_MEMORY_MIB, "memory_mib=512"
        )
        yield from _number("vm cpus", self.cpus, 1, _MOST_CPUS, "cpus=2")
        for name, (choices, may_be_none) in _CHOICES.items():
            value = getattr(self, name)
            if not (value is None and may_be_none) and value not in choices:
                quoted = ", ".join(f'"{choice}"' for choice in choices)
                yield f"vm {name}={shown(value)} is unknown", f"{name}= one of {quoted}"
        for name in ("tpm", "graphics"):
            if not isinstance(getattr(self, name), bool):
                yield f"vm {name}={shown(getattr(self, name))} is no bool", f"{name}=True"
        yield from self._wrong_disks()
        yield from self._wrong_keys()
        uri: object = self.uri
        if uri is not None and not (
            isinstance(uri, str)
            and re.fullmatch(r"qemu(\+[a-z]+)?://[^\s/]*/[^\s]*", uri, re.ASCII)
        ):
            yield f"vm uri={shown(uri)} is no URI of QEMU's", 'uri="qemu+ssh://big.lab/system"'
        pool: object = self.pool
        if pool is not None and (not isinstance(pool, str) or not pool or uri is None):
            yield f"vm pool={shown(pool)} is no pool of another host's", 'uri=..., pool="default"'
        if self.xml is not None:
            try:
                xml_elements(self.xml)
            except ValueError as error:
                what, _, remedy = str(error).partition("; try: ")
                yield f"vm xml={shown(self.xml)}: {what}", remedy

    def _wrong_disks(self) -> Iterator[tuple[str, str]]:
        example = 'disks=[Disk(name="data", size_mib=1024)]'
        disks: Any = self.disks
        if not isinstance(disks, tuple):
            yield f"vm disks={shown(disks)} are no disks", example
            return
        if len(disks) > _MOST_DISKS:
            yield f"vm has {len(disks)} disks, and {_MOST_DISKS} are the most", "fewer disks"
        names: set[object] = set()
        for disk in disks:
            if not isinstance(disk, Disk):
                yield f"vm disks: {shown(disk)} is no disk", example
                continue
            wrong = list(disk.wrong_values())
            yield from wrong
            if not wrong and disk.name in names:
                yield f"vm has two disks named {disk.name!r}", f'name="{disk.name}-2"'
            names.add(disk.name if not wrong else None)

    def _wrong_keys(self) -> Iterator[tuple[str, str]]:
        keys: Any = self.authorized_keys
        remedy = 'authorized_keys=[Path("id_ed25519.pub").read_text()]'
        if not isinstance(keys, tuple):
            yield f"vm authorized_keys={shown(keys)} are no keys", remedy
            return
        for key in keys:
            if isinstance(key, str) and "PRIVATE KEY" in key:  # not shown to anybody
                yield "vm authorized_keys has a private key in it", remedy
            elif not isinstance(key, str) or not _KEY.fullmatch(key):
                yield f"vm authorized_keys: {shown(key)} is no line of authorized_keys", remedy


def xml_elements(xml: str) -> list[Element]:
    """The elements of :attr:`Vm.xml`, to be merged into a domain.

    A devices fragment is one ``<devices>``; a name space ``qemu`` needs no declaration.

    :raises ValueError: it is none, or sets what has settings of its own; told with a remedy.
    """
    from xml.etree import ElementTree

    example = "<devices><rng model='virtio'>...</rng></devices>"
    given: object = xml
    if not isinstance(given, str):
        raise ValueError(f"it is no text; try: xml={example!r}")
    if "<!" in xml.replace("<!--", "").replace("<![CDATA[", ""):
        raise ValueError("a document type or an entity is declared in it; try: leave that out")
    try:
        root = ElementTree.fromstring(f'<domain xmlns:qemu="{_QEMU}">{xml}</domain>')
    except ElementTree.ParseError as error:
        raise ValueError(f"it is no XML: {error}; try: xml={example!r}") from error
    texts = [root.text, *(element.tail for element in root)]
    if not len(root) or any(text and text.strip() for text in texts):
        raise ValueError(f"text stands outside of elements in it; try: xml={example!r}")
    for element in root:
        if element.tag == "domain":
            raise ValueError("it is a whole domain; try: the elements to add to it")
        if element.tag in _SET_BY_US:
            raise ValueError(
                f"<{element.tag}> is set by pytest-carthage; try: {_SET_BY_US[element.tag]}"
            )
    return list(root)


def _number(
    name: str, value: object, least: int, most: int, remedy: str
) -> Iterator[tuple[str, str]]:
    if type(value) is not int or not least <= value <= most:
        yield f"{name} {shown(value)} is not a whole number from {least} to {most}", remedy
