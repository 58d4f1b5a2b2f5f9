"""What is plugged into a domain that runs, and pulled out of it: blocking calls, of one thread."""

from __future__ import annotations

import itertools
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from pytest_carthage import clock
from pytest_carthage.errors import FabricError
from pytest_carthage.providers.libvirt.disks import new_disk
from pytest_carthage.providers.libvirt.domain import disk_xml, interface_at, interface_xml

if TYPE_CHECKING:
    from pytest_carthage.placing.cards import Card
    from pytest_carthage.providers.libvirt.domain import Places

__all__ = ["plug_card", "plug_disk", "set_carrier", "unplug_card", "unplug_disk"]

#: what a kernel may take to let go of something
_LET_GO_S = 60.0
_POLL_S = 0.1
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


def _flags(libvirt: Any, domain: Any) -> int:
    """It is to be so from now on, and after it was off."""
    flags: int = libvirt.VIR_DOMAIN_AFFECT_CONFIG
    if domain.isActive():
        flags |= libvirt.VIR_DOMAIN_AFFECT_LIVE
    return flags


def _text(element: ElementTree.Element) -> str:
    return ElementTree.tostring(element, encoding="unicode")


def _disks(domain: Any) -> dict[str, ElementTree.Element]:
    """Name of each device to its disk."""
    disks = ElementTree.fromstring(domain.XMLDesc()).iterfind("devices/disk")
    return {str(disk.find("target").get("dev")): disk for disk in disks}  # type: ignore[union-attr]


def plug_disk(libvirt: Any, domain: Any, places: Places, name: str, size_mib: int) -> None:
    """Make a disk, and plug it in.

    :raises FabricError: it has one of this name.
    :raises OSError: it cannot be made.
    """
    disks = _disks(domain)
    if any(disk.findtext("serial") == name for disk in disks.values()):
        raise FabricError(f"it has a disk {name!r} already")
    device = next(f"vd{letter}" for letter in _LETTERS if f"vd{letter}" not in disks)
    path = _free_file(domain, places, name)
    new_disk(path, size_mib=size_mib)
    try:
        domain.attachDeviceFlags(disk_xml(path, device, name), _flags(libvirt, domain))
    except BaseException:
        path.unlink()
        raise


def _free_file(domain: Any, places: Places, name: str) -> Path:
    """Where a disk of a name can be made; one of before may be in a snapshot."""
    kept = _files_of_snapshots(domain)
    numbered = (places.further(f"{name}.{number}") for number in itertools.count(2))
    candidates = itertools.chain([places.further(name)], numbered)
    return next(path for path in candidates if path not in kept)


def _files_of_snapshots(domain: Any) -> set[Path]:
    """Files of the disks that snapshots have."""
    return {
        Path(file)
        for snapshot in domain.listAllSnapshots()
        for source in ElementTree.fromstring(snapshot.getXMLDesc()).iter("source")
        if (file := source.get("file")) is not None
    }


def unplug_disk(libvirt: Any, domain: Any, places: Places, name: str) -> None:
    """Pull a disk out, and delete it, unless a snapshot has it.

    :raises FabricError: there is none, or it is not let go of.
    """
    disks = _disks(domain)
    device, disk = next(
        ((device, disk) for device, disk in disks.items() if disk.findtext("serial") == name),
        (None, None),
    )
    if disk is None:
        named = [text for each in disks.values() if (text := each.findtext("serial"))]
        raise FabricError(f"it has no disk {name!r}, but {', '.join(named) or 'none'}")
    source = disk.find("source")
    path = places.further(name) if source is None else Path(source.get("file", ""))
    domain.detachDeviceFlags(_text(disk), _flags(libvirt, domain))
    _wait_until(lambda: device not in _disks(domain), f"disk {name!r}")
    if path not in _files_of_snapshots(domain):
        path.unlink(missing_ok=True)


def plug_card(libvirt: Any, domain: Any, card: Card) -> None:
    """Plug a card in.

    :raises FabricError: it is plugged in.
    """
    if _has_card(domain, card):
        raise FabricError(f"its card {card.interface!r} is plugged in")
    domain.attachDeviceFlags(interface_xml(card), _flags(libvirt, domain))


def unplug_card(libvirt: Any, domain: Any, card: Card) -> None:
    """Pull a card out.

    :raises FabricError: it is not plugged in, or not let go of.
    """
    if not _has_card(domain, card):
        raise FabricError(f"its card {card.interface!r} is not plugged in")
    interface = interface_at(domain.XMLDesc(), card.port)
    domain.detachDeviceFlags(_text(interface), _flags(libvirt, domain))
    _wait_until(lambda: not _has_card(domain, card), f"card {card.interface!r}")


def _has_card(domain: Any, card: Card) -> bool:
    try:
        interface_at(domain.XMLDesc(), card.port)
    except LookupError:
        return False
    return True


def _wait_until(is_gone: Any, what: str) -> None:
    deadline = clock.monotonic_s() + _LET_GO_S
    while not is_gone():
        if clock.monotonic_s() > deadline:
            raise FabricError(
                f"its kernel has not let go of {what} in {_LET_GO_S:g} s; try: when it has booted"
            )
        # there is an event for it, which comes by another thread and for all devices
        time.sleep(_POLL_S)


def set_carrier(libvirt: Any, domain: Any, port: str, *, present: bool) -> None:
    """Have the interface at a tap have a carrier, or none: from now on, and if it starts."""
    interface = interface_at(domain.XMLDesc(), port)
    link = interface.find("link")
    if link is None:
        link = ElementTree.SubElement(interface, "link")
    link.set("state", "up" if present else "down")
    domain.updateDeviceFlags(_text(interface), _flags(libvirt, domain))
