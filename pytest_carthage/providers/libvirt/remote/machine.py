"""A machine of another host's libvirt."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from pytest_carthage.errors import FabricError
from pytest_carthage.placing.cards import cards
from pytest_carthage.providers.libvirt.machine import LibvirtMachine
from pytest_carthage.providers.libvirt.remote.domain import interface_with
from pytest_carthage.providers.libvirt.ways import Entry

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pytest_carthage.providers.libvirt.domain import Places
    from pytest_carthage.providers.libvirt.remote.service import RemoteService

__all__ = ["RemoteEntry", "RemoteMachine"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteEntry(Entry):
    """The way into a machine there: its agent, by a deputy."""

    #: gives its command, with the variables of what is run there
    deputy: Callable[[Mapping[str, str]], Sequence[str]]

    def command(self, kind: str, places: Places) -> Sequence[str]:
        """The command of the deputy."""
        return self.deputy(self.env)


class RemoteMachine(LibvirtMachine):
    """A domain there, with the deputy here that has its agent, its console and its cables."""

    _service: RemoteService

    async def start(self) -> None:
        """Switch it on; its processors begin when its console is heard, see the base class."""

        async def boot() -> None:
            await self.call(_create_paused)
            self._life.is_found_on()
            await self._answering.appoint()
            await self.call(lambda libvirt, domain: domain.resume())
            await self.wait_until_it_answers()

        await self._start(boot)

    async def signal(self, port: str, *, present: bool) -> None:
        """Have the interface behind this port have a carrier, or none."""
        mac = next(card.mac for card in cards(self._planned) if card.port == port)
        await self.call(partial(_set_carrier, mac=mac, present=present))

    async def plug_disk(self, name: str, size_mib: int) -> None:
        """Not there."""
        raise self._not_there("a disk is plugged in", 'Vm(disks=[Disk(name="...", size_mib=...)])')

    async def unplug_disk(self, name: str) -> None:
        """Not there."""
        raise self._not_there("a disk is pulled out", "Vm() without uri=")

    async def plug_card(self, port: str) -> None:
        """Not there."""
        raise self._not_there("a card is plugged in", "link.up()")

    async def unplug_card(self, port: str) -> None:
        """Not there."""
        raise self._not_there("a card is pulled out", "link.down()")

    def _not_there(self, what: str, instead: str) -> FabricError:
        return FabricError(
            f"{self._who}: {what} while it runs only where its libvirt is the environment's own, "
            f"and it is that at {self._service.uri}; try: {instead}"
        )


def _create_paused(libvirt: Any, domain: Any) -> None:
    if not domain.isActive():  # it may be asked twice, where a way is cut in the middle of it
        domain.createWithFlags(libvirt.VIR_DOMAIN_START_PAUSED)


def _set_carrier(libvirt: Any, domain: Any, *, mac: str, present: bool) -> None:
    interface = interface_with(domain.XMLDesc(), mac)
    link = interface.find("link")
    if link is None:
        link = ElementTree.SubElement(interface, "link")
    link.set("state", "up" if present else "down")
    flags = libvirt.VIR_DOMAIN_AFFECT_CONFIG
    if domain.isActive():
        flags |= libvirt.VIR_DOMAIN_AFFECT_LIVE
    domain.updateDeviceFlags(ElementTree.tostring(interface, encoding="unicode"), flags)
