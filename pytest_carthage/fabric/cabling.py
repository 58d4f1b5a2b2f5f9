"""The cables of a fabric's machines, and what is configured at their ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_carthage.fabric import announcement, birth, links, nat, netlink, nft, taps
from pytest_carthage.fabric.bridges import until_up
from pytest_carthage.fabric.container import network

if TYPE_CHECKING:
    from collections.abc import Collection

    from pytest_carthage.fabric.bridges import Bridges
    from pytest_carthage.fabric.machine import Machine
    from pytest_carthage.fabric.namespaces import Home
    from pytest_carthage.fabric.spec import LinkSpec, MachineSpec
    from pytest_carthage.fabric.wire.steps import Steps


def clash(spec: MachineSpec, whose: dict[str, str]) -> str | None:
    """Why a machine cannot have its ports; None: it has them, in ``whose``, from now on.

    A port of two machines would be removed with either of them.
    """
    own: dict[str, str] = {}
    for link in spec["links"]:
        for port in links.ports(link):
            if port in whose:
                return f"port {port!r} is that of machine {whose[port]!r} already"
            if port in own:
                return f"port {port!r} is that of two of its links"
            own[port] = spec["name"]
    whose.update(own)
    return None


class Cabling:
    """Lays cables between machines and bridges, and removes them."""

    def __init__(self, home: Home, bridges: Bridges) -> None:
        self._home = home
        self._bridges = bridges
        #: (network, address) of machines that have left, to the hardware address that they had
        self._left: dict[tuple[str, str], str | None] = {}

    def connect(self, new: Collection[Machine]) -> Steps[None]:
        """Make the network of new machines, and all their links.

        :raises OSError: the kernel refused.
        """
        for machine in new:
            if machine.spec["kind"] in ("process", "namespace"):
                machine.place.connect()
        yield from self._lay([(m, link) for m in new for link in m.spec["links"]])

    def _lay(self, wanted: Collection[tuple[Machine, LinkSpec]]) -> Steps[None]:
        batch = netlink.Batch()
        for machine, link in wanted:
            if link["kind"] == "macvlan":
                yield from self._bridges.make_parent(link)
            if machine.spec["kind"] == "tap":
                taps.connect(link, bridge_index=self._bridges.index)
                continue
            links.connect(
                batch,
                link,
                namespace_fd=machine.place.namespace,
                bridge_index=self._bridges.index,
            )
        batch.commit()
        batch = netlink.Batch()
        for machine, link in wanted:
            links.complete(
                batch,
                link,
                namespace_fd=machine.place.namespace,
                bridge_index=self._bridges.index,
                parent_index=self._bridges.parent_index,
                is_wire=self._bridges.is_wire,
            )
        batch.commit()

    def configure(self, machine: Machine) -> Steps[None]:
        """Configure a machine's network.

        :raises OSError: the kernel refused.
        """
        loading = None
        with self._home.visit(machine.place.namespace):
            birth.configure_network(machine.spec)
            if nat.is_needed(machine.spec):
                loading = nft.Loading(nat.rules(machine.spec))
        if loading is not None:
            yield from loading.end()

    def until_up(self, new: Collection[Machine]) -> Steps[None]:
        """Wait for the cables of new machines; neighbours hear of their addresses."""
        yield from until_up([port for machine in new for port in machine.place.ports])
        for machine in new:
            self._announce(machine)
            for link in machine.spec["links"]:
                self._pair(link)

    def _pair(self, link: LinkSpec) -> None:
        """Know the ends of a link that is a wire."""
        if self._bridges.is_wire(link["bridge"]):
            for port in links.ports(link):
                self._bridges.pairs.add(port, link["bridge"])

    def _announce(self, machine: Machine) -> None:
        """Tell neighbours of addresses that were another machine's before."""
        if not self._left or machine.place.namespace < 0:
            return
        for link in machine.spec["links"]:
            known = [
                address
                for address in link["addresses"]
                if self._left.pop((link["bridge"], address), link["mac"]) != link["mac"]
            ]
            if known and link["up"]:
                try:
                    with self._home.visit(machine.place.namespace):
                        announcement.announce(link["interface"], known)
                except OSError:
                    continue  # neighbours find out by themselves, later

    def renew(self, machine: Machine) -> Steps[None]:
        """Have a machine's network as planned again, and make cables that are gone from it.

        :raises OSError: the kernel refused.
        """
        network.look_up(self._home)
        with self._home.visit(machine.place.namespace):
            missing = network.clear(network.cables(machine.spec))
        lost = [
            link
            for link in machine.spec["links"]
            if not missing.isdisjoint(
                {link["interface"], *(m["interface"] for m in link["members"])}
            )
        ]
        for link in lost:
            for port in links.ports(link):
                _remove(port)
        yield from self._lay([(machine, link) for link in lost])
        yield from self.configure(machine)
        yield from until_up(machine.place.ports)
        for link in lost:
            self._pair(link)

    def remove(self, machine: Machine) -> None:
        """Remove the cables of a machine that leaves."""
        # the namespace ends with its last user, the ports need not wait for that
        for port in machine.place.ports:
            _remove(port)
        self._bridges.pairs.forget(machine.place.ports)

    def remember(self, machine: Machine) -> None:
        """A machine has left: whoever gets its addresses announces them."""
        for link in machine.spec["links"]:
            for address in link["addresses"]:
                self._left[link["bridge"], address] = link["mac"]


def _remove(port: str) -> None:
    batch = netlink.Batch()
    try:
        batch.delete(port)
        batch.commit()
    except OSError:
        pass  # went with the namespace, or never came to be
