"""Snapshots of a domain: its disks and its memory, kept in its first disk."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["go_on", "keep", "names", "put_back", "runs"]

#: virDomainQemuMonitorCommandFlags: a command as a person would type it
_TYPED = 1


def keep(libvirt: Any, domain: Any, name: str) -> None:
    """Keep what a domain is now; it goes on."""
    snapshot = ElementTree.Element("domainsnapshot")
    ElementTree.SubElement(snapshot, "name").text = name
    ElementTree.SubElement(snapshot, "memory", snapshot="internal")
    domain.snapshotCreateXML(ElementTree.tostring(snapshot, encoding="unicode"), 0)


def runs(libvirt: Any, domain: Any) -> bool:
    """Whether its processors run."""
    return bool(domain.info()[0] == libvirt.VIR_DOMAIN_RUNNING)


def go_on(libvirt: Any, domain: Any) -> None:
    """Have its processors run, if they were stopped."""
    if domain.info()[0] == libvirt.VIR_DOMAIN_PAUSED:
        domain.resume()


def names(libvirt: Any, domain: Any) -> Sequence[str]:
    """Names of its snapshots, the oldest first."""
    flags = libvirt.VIR_DOMAIN_SNAPSHOT_LIST_TOPOLOGICAL  # tells what is older within a second
    return [snapshot.getName() for snapshot in sorted(domain.listAllSnapshots(flags), key=_time)]


def put_back(libvirt: Any, domain: Any, name: str) -> None:
    """Put a domain back, and have it run.

    The same QEMU takes what was kept, four times as fast as a new one, where its devices are still
    those of then.
    """
    snapshot = domain.snapshotLookupByName(name)
    if domain.isActive() and _devices(snapshot.getXMLDesc()) == _devices(domain.XMLDesc()):
        monitor = importlib.import_module("libvirt_qemu")
        if not monitor.qemuMonitorCommand(domain, f"loadvm {name}", _TYPED).strip():
            if domain.info()[0] != libvirt.VIR_DOMAIN_RUNNING:  # it was kept while it stood
                domain.resume()
            return
    domain.revertToSnapshot(snapshot, libvirt.VIR_DOMAIN_SNAPSHOT_REVERT_RUNNING)


def _time(snapshot: Any) -> int:
    """When it was kept, in seconds since the epoch."""
    return int(ElementTree.fromstring(snapshot.getXMLDesc()).findtext("creationTime", "0"))


def _devices(xml: str) -> list[tuple[str, ...]]:
    """What a domain is made of, by where each device is plugged in."""
    root = ElementTree.fromstring(xml)
    devices = root.find(".//devices")
    plugged = []
    for device in devices if devices is not None else ():
        address = device.find("address")
        if address is not None:
            target = device.find("target")
            name = target.get("dev", "") if device.tag == "disk" and target is not None else ""
            source = device.find("source")
            file = source.get("file", "") if device.tag == "disk" and source is not None else ""
            place = (f"{key}={value}" for key, value in sorted(address.attrib.items()))
            plugged.append((device.tag, name, file, *place))
    return sorted(plugged)
