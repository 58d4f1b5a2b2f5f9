"""Captures: what passes a network or a link while a block runs, as packets for assertions."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from pytest_carthage import clock
from pytest_carthage.bridge import Opening, on_core
from pytest_carthage.errors import TimeLimitError
from pytest_carthage.live.packets import pcapng
from pytest_carthage.live.packets.packets import Owners, Packet, dissect
from pytest_carthage.live.packets.taps import Tap, compile_filter
from pytest_carthage.portal import Portal

if TYPE_CHECKING:
    from types import TracebackType

    from pytest_carthage.planning.plan import Plan, PlannedLink

__all__ = ["AsyncCapture", "Capture", "Place", "link_place", "places"]

#: frames that the event loop takes in one go
_GO = 200
#: what one capture holds at most; frames beyond that are counted as lost
_MOST_BYTES = 256 << 20
_SHOWN = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a capture looks."""

    network: str
    #: None: in the fabric itself
    machine: str | None
    interface: str
    #: take only what the interface's own namespace sends by it
    is_outgoing_only: bool = False


def places(plan: Plan, network: str) -> Sequence[Place]:
    """Where everything that is sent on a network is seen once.

    A tunnel has no bridge: what is sent there is seen where it is sent.

    :raises LookupError: there is no such network.
    """
    if network not in plan.networks:
        names = ", ".join(plan.networks) or "none"
        raise LookupError(
            f"capture: layout {plan.layout!r} has no network {network!r}; there are: {names}"
        )
    planned = plan.networks[network]
    if planned.external is not None:
        raise LookupError(
            f"capture: network {network!r} of layout {plan.layout!r} is external "
            f"({planned.external}): what is sent there is seen by no one here; try: tcpdump on a "
            "host that is there"
        )
    if planned.kind in ("bridged", "point-to-point"):
        return [Place(network=network, machine=None, interface=planned.bridge)]
    return [
        Place(
            network=network, machine=machine.name, interface=link.interface, is_outgoing_only=True
        )
        for machine in plan.machines.values()
        for link in machine.links
        if link.network == network
    ]


def link_place(link: PlannedLink, machine: str) -> Place:
    """Where everything that passes a link is seen.

    :raises LookupError: it is on an external network.
    """
    if link.kind == "external":
        raise LookupError(
            f"capture: link {link.interface!r} of machine {machine!r} is on network "
            f"{link.network!r}, which is external; try: run('tcpdump ...') on the machine"
        )
    if link.kind == "bridged":  # the fabric's end: it is there whatever the machine does
        return Place(network=link.network, machine=None, interface=link.port)
    return Place(network=link.network, machine=machine, interface=link.interface)


class AsyncCapture(Sequence[Packet]):
    """Packets that were captured by now, in the order in which they were seen.

    A sequence that grows: each look at it takes in what was seen until then.
    """

    def __init__(self, captures: Any, where: str, looks: Sequence[Place], filter: str) -> None:
        self.portal: Portal = captures.reaches.portal
        #: as in pcap-filter(7); empty: everything
        self.filter = filter
        self._captures = captures
        self._where = f"capture on {where} of layout {captures.knows.plan.layout!r}"
        self._looks = looks
        self._taps: list[tuple[Place, Tap]] = []
        self._packets: list[Packet] = []
        self._bytes = 0
        self._dropped = 0
        self._owners = Owners()
        self._known: Plan | None = None
        #: whoever reads: the event loop, and the threads of tests
        self._lock = threading.Lock()
        self._grew = asyncio.Event()

    @on_core
    async def open(self) -> None:
        """Begin; when it returns, what is sent is captured.

        :raises ValueError: the filter is wrong, in tcpdump's own words.
        :raises HostError: there is a filter, and no tcpdump.
        """
        fabric = self._captures.reaches.fabric
        program = b""
        if self.filter.strip():
            try:
                program = await compile_filter(fabric, self.filter)
            except ValueError as error:
                raise ValueError(
                    f"{self._where}: filter {self.filter!r}: {error}; try: man pcap-filter"
                ) from None
        self._captures.running.append(self)
        try:
            for place in self._looks:
                tap = await Tap.open(
                    fabric,
                    place.machine,
                    place.interface,
                    program=program,
                    is_promiscuous=place.machine is None,
                )
                self._taps.append((place, tap))
                asyncio.get_running_loop().add_reader(tap.fileno(), self._readable)
        except BaseException:
            await self.aclose()
            raise

    @on_core
    async def aclose(self) -> None:
        """End; what was seen until now stays. To end it twice is no error."""
        self.stop()

    def stop(self) -> None:
        """The same, on the portal's event loop."""
        self._take()
        with self._lock:
            taps, self._taps = self._taps, []
            for _, tap in taps:
                self.portal.loop.remove_reader(tap.fileno())
                self._dropped += tap.lost
                tap.close()
        if self in self._captures.running:
            self._captures.running.remove(self)
        self._grew.set()

    def _readable(self) -> None:
        if self._take(_GO):
            self._grew.set()

    def _take(self, most: int | None = None) -> int:
        """Take in what the taps have; returns how many packets that were."""
        with self._lock:
            before = len(self._packets)
            plan = self._captures.knows.plan
            if plan is not self._known:
                self._owners, self._known = Owners(plan), plan
            for place, tap in self._taps:
                for seen in tap.read(most):
                    if place.is_outgoing_only and not seen.is_outgoing:
                        continue
                    if self._bytes + len(seen.data) > _MOST_BYTES:
                        self._dropped += 1
                        continue
                    self._bytes += len(seen.data)
                    self._packets.append(
                        dissect(
                            seen.data,
                            time_ns=seen.time_ns,
                            network=place.network,
                            owners=self._owners,
                        )
                    )
            if len(self._taps) > 1:
                self._packets[before:] = sorted(
                    self._packets[before:], key=lambda packet: packet.time_ns
                )
            return len(self._packets) - before

    @property
    def packets(self) -> Sequence[Packet]:
        """What was captured until now."""
        if self._take():  # whoever waits for it on the event loop would not hear of it
            self.portal.loop.call_soon_threadsafe(self._grew.set)
        return tuple(self._packets)

    @property
    def lost(self) -> int:
        """Packets that were seen and could not be kept."""
        with self._lock:
            return self._dropped + sum(tap.lost for _, tap in self._taps)

    def __len__(self) -> int:
        return len(self.packets)

    @overload
    def __getitem__(self, index: int) -> Packet: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Packet]: ...
    def __getitem__(self, index: int | slice) -> Packet | Sequence[Packet]:
        return self.packets[index]

    def __iter__(self) -> Iterator[Packet]:
        return iter(self.packets)

    def __repr__(self) -> str:
        packets = self.packets
        number = f"{len(packets)} packet{'' if len(packets) == 1 else 's'}"
        return (
            f"<{self._where}: {number}, the last: {packets[-1]}>"
            if packets
            else (f"<{self._where}: no packet>")
        )

    def __str__(self) -> str:
        """The last packets, one in a line."""
        return f"{self._where}: {_shown(self.packets)}"

    @overload
    async def wait_for(self, wanted: int, *, timeout_s: float = 10.0) -> Sequence[Packet]: ...
    @overload
    async def wait_for(
        self, wanted: Callable[[Packet], object], *, timeout_s: float = 10.0
    ) -> Packet: ...
    async def wait_for(
        self, wanted: int | Callable[[Packet], object], *, timeout_s: float = 10.0
    ) -> Packet | Sequence[Packet]:
        """Wait until so many packets are there, or one that a function finds right.

        Returns the packets, or the first that is right; what is there already counts.

        :raises TimeLimitError: not in time; tells what was seen.
        """
        return await self._wait_for(wanted, timeout_s)

    @on_core
    async def _wait_for(
        self, wanted: int | Callable[[Packet], object], timeout_s: float
    ) -> Packet | Sequence[Packet]:
        begin = clock.monotonic_s()
        looked = 0
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    self._grew.clear()
                    packets = self.packets
                    if isinstance(wanted, int):
                        if len(packets) >= wanted:
                            return packets[:wanted]
                    else:
                        for packet in packets[looked:]:
                            if self._is_right(wanted, packet):
                                return packet
                        looked = len(packets)
                    if not self._taps:
                        break
                    await self._grew.wait()
        except TimeoutError:
            pass
        wish = f"{wanted} packets" if isinstance(wanted, int) else "packet as wanted"
        raise TimeLimitError(
            f"{self._where}: no {wish} after {clock.monotonic_s() - begin:.3g} s; "
            f"seen: {_shown(self.packets)}"
        )

    def _is_right(self, wanted: Callable[[Packet], object], packet: Packet) -> bool:
        """Whether a packet is the one; what the function raises is who asked's own."""
        try:
            return bool(wanted(packet))
        except Exception as error:
            error.add_note(f"{self._where}: raised by the function of wait_for, given: {packet}")
            raise

    def save(self, path: str | Path) -> Path:
        """Write what was captured until now as pcapng, in which machines are named."""
        target = Path(path)
        networks = list(dict.fromkeys(place.network for place in self._looks))
        packets = self.packets
        with target.open("wb") as file:
            pcapng.write(
                file,
                (
                    pcapng.Frame(
                        time_ns=packet.time_ns,
                        network=networks.index(packet.network),
                        data=packet.raw,
                        length=len(packet.raw),
                        comment=self._owners.remark(packet),
                    )
                    for packet in packets
                ),
                networks=networks,
                names=self._owners.names(),
            )
        return target


def _shown(packets: Sequence[Packet]) -> str:
    if not packets:
        return "nothing"
    left_out = len(packets) - _SHOWN
    lines = [str(packet) for packet in packets[-_SHOWN:]]
    head = f"{len(packets)} packets" + (", the last of them" if left_out > 0 else "")
    return "\n  ".join([f"{head}:", *lines])


class Capture(Sequence[Packet]):
    """A capture for synchronous callers: begins with its block, and ends with it.

    A sequence of packets that grows; each look at it takes in what was seen until then.
    """

    def __init__(self, opening: Opening[AsyncCapture, Capture], portal: Portal) -> None:
        self._opening = opening
        self._portal = portal
        self._aio: AsyncCapture | None = None

    @property
    def aio(self) -> AsyncCapture:
        """The same as awaitables."""
        if self._aio is None:
            raise RuntimeError("a capture begins with its block: with layout.capture(...) as seen:")
        return self._aio

    def __enter__(self) -> Capture:
        async def begin() -> AsyncCapture:
            return await self._opening

        self._aio = self._portal.call(begin)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._portal.call(self.aio.aclose)

    @property
    def packets(self) -> Sequence[Packet]:
        """What was captured until now."""
        return self.aio.packets

    @property
    def lost(self) -> int:
        """Packets that were seen and could not be kept."""
        return self.aio.lost

    def __len__(self) -> int:
        return len(self.aio)

    @overload
    def __getitem__(self, index: int) -> Packet: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Packet]: ...
    def __getitem__(self, index: int | slice) -> Packet | Sequence[Packet]:
        return self.aio[index]

    def __iter__(self) -> Iterator[Packet]:
        return iter(self.aio)

    def __repr__(self) -> str:
        return repr(self._aio) if self._aio is not None else "<capture that has not begun>"

    def __str__(self) -> str:
        """The last packets, one in a line."""
        return repr(self) if self._aio is None else str(self._aio)

    @overload
    def wait_for(self, wanted: int, *, timeout_s: float = 10.0) -> Sequence[Packet]: ...
    @overload
    def wait_for(
        self, wanted: Callable[[Packet], object], *, timeout_s: float = 10.0
    ) -> Packet: ...
    def wait_for(
        self, wanted: int | Callable[[Packet], object], *, timeout_s: float = 10.0
    ) -> Packet | Sequence[Packet]:
        """Wait until so many packets are there, or one that a function finds right.

        Returns the packets, or the first that is right; what is there already counts.

        :raises TimeLimitError: not in time; tells what was seen.
        """
        aio = self.aio

        async def go() -> Packet | Sequence[Packet]:
            if isinstance(wanted, int):
                return await aio.wait_for(wanted, timeout_s=timeout_s)
            return await aio.wait_for(wanted, timeout_s=timeout_s)

        return self._portal.call(go)

    def save(self, path: str | Path) -> Path:
        """Write what was captured until now as pcapng, in which machines are named."""
        return self.aio.save(path)
