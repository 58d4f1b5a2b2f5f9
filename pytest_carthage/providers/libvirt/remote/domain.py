"""A domain on another host: what differs there from one in the fabric."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from pytest_carthage.placing.cards import cards
from pytest_carthage.providers.libvirt.domain import domain_xml, merge

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_carthage.model.vm import Vm
    from pytest_carthage.planning.plan import PlannedMachine
    from pytest_carthage.provider import Identity
    from pytest_carthage.providers.libvirt.domain import Booting, Hardware, Places

__all__ = ["cable_ports", "interface_with", "remote_xml"]


def remote_xml(
    planned: PlannedMachine,
    vm: Vm,
    *,
    identity: Identity,
    places: Places,
    booting: Booting,
    hardware: Hardware,
    name: str,
    files: Mapping[str, str],
    ports: Mapping[str, int],
) -> str:
    """Describe the domain of a machine for another host's libvirt.

    :param name: what it is called there.
    :param files: path of a file here to that of its volume.
    :param ports: port of the fabric to the TCP port at which QEMU waits for the cable.
    :raises ValueError: its own XML is none.
    """
    text = domain_xml(
        planned,
        replace(vm, xml=None),
        identity=identity,
        places=places,
        booting=booting,
        hardware=hardware,
    )
    root = ElementTree.fromstring(text)
    _only(root, "name").text = name
    for tag in ("kernel", "initrd"):
        element = root.find(f"os/{tag}")
        if element is not None:
            element.text = files[str(element.text)]
    for source in root.iterfind("devices/disk/source"):
        source.set("file", files[source.get("file", "")])
    for interface, card in zip(root.iterfind("devices/interface"), cards(planned), strict=True):
        interface.set("type", "server")
        interface.remove(_only(interface, "target"))
        for element in interface.findall("mtu"):  # libvirt knows none of a stream
            interface.remove(element)
        port = str(ports[card.port])
        ElementTree.SubElement(interface, "source", address="127.0.0.1", port=port)
    serial = _only(root, "devices/serial")
    serial.set("type", "pty")
    serial.remove(_only(serial, "source"))
    for channel in root.iterfind("devices/channel"):
        channel.remove(_only(channel, "source"))  # libvirt finds a place
    for graphics in root.iterfind("devices/graphics"):
        graphics.attrib.pop("socket", None)
        ElementTree.SubElement(graphics, "listen", type="none")
    if vm.xml is not None:
        merge(root, vm.xml)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode")


def cable_ports(planned: PlannedMachine, domain: str) -> Mapping[str, int]:
    """Port of the fabric to the TCP port of each cable, by a domain's XML."""
    ports = {}
    for card in cards(planned):
        source = interface_with(domain, card.mac).find("source")
        ports[card.port] = int(source.get("port", "0")) if source is not None else 0
    return ports


def interface_with(domain: str, mac: str) -> ElementTree.Element:
    """The interface of a domain with a hardware address.

    :raises LookupError: it has none.
    """
    for interface in ElementTree.fromstring(domain).iterfind("devices/interface"):
        if _only(interface, "mac").get("address") == mac:
            return interface
    raise LookupError(f"it has no interface with {mac}")


def _only(element: ElementTree.Element, path: str) -> ElementTree.Element:
    found = element.find(path)
    assert found is not None, path
    return found
