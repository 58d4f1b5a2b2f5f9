"""Where the plays of a layout work: one station that is on its networks, made when it is needed."""

from __future__ import annotations

import asyncio
import contextlib
import os
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

from pytest_carthage.errors import FabricError, GateError
from pytest_carthage.live.openings.gate import LOCAL_NAMES, AsyncGate, Gates, destination
from pytest_carthage.live.openings.service_gate import ServiceGate
from pytest_carthage.live.openings.station import Station, namespace_of
from pytest_carthage.planning import plan_control
from pytest_carthage.planning.plan import PlannedMachine
from pytest_carthage.planning.resolver import resolv_conf
from pytest_carthage.work.ansible.station import Station as PlayStation

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from pytest_carthage.handles.channel import Channel
    from pytest_carthage.live.surroundings import Knows, Reaches, Tells

__all__ = ["NAME", "Control"]

#: what it is called where machines are; no machine can be called like this
NAME = "station:ansible"


class Control:
    """The station of the plays of one live layout, and its ways out."""

    name = NAME

    def __init__(self, *, tells: Tells, knows: Knows[Any], reaches: Reaches, gates: Gates) -> None:
        self._tells = tells
        self._knows = knows
        self._reaches = reaches
        self._gates = gates
        #: name to address, of what plays alone know by name: the far ends of gates
        self.aliases: dict[str, str] = {}
        self._station = Station("", reaches.folder / "stations" / "ansible")
        self._networks: tuple[str, ...] = ()
        #: destination to its gate, and how many plays have it
        self._shared: dict[str, tuple[AsyncGate, int]] = {}
        self._opening = asyncio.Lock()
        self._making: asyncio.Task[None] | None = None
        gates.places[NAME] = self

    @property
    def channel(self) -> Channel:
        """What answers for it."""
        return self._reaches.fabric

    @property
    def is_made(self) -> bool:
        """Whether there was a play."""
        return self._station.namespace >= 0

    @property
    def names(self) -> list[str]:
        """What the fabric calls it, beyond ``station:``; nothing as long as there was no play."""
        return [NAME.removeprefix("station:")] if self.is_made else []

    async def write_names(self) -> None:
        """Have it know who there is, and where gates are; also plays that run."""
        lines = [f"{address} {name}\n" for name, address in self.aliases.items()]
        self._station.tell_hosts(self._knows.plan.hosts_file(self._networks) + "".join(lines))

    async def tell_hosts(self) -> None:
        """Machines have joined or left."""
        if self.is_made:
            await self.write_names()

    @contextlib.asynccontextmanager
    async def open(self, outside: Sequence[str], *, for_s: float) -> AsyncIterator[PlayStation]:
        """Where a play works, while the block runs.

        :param outside: ``"host:port"`` of what it reaches of the world, or the path of a socket of
            the host; each is a gate, which plays that run at the same time share.
        :param for_s: seconds after which a gate closes in any case.
        :raises GateError: a destination is none, or cannot be reached as the play would.
        :raises FabricError: the fabric refused the station.
        """
        if self._making is None or (self._making.done() and not self.is_made):
            self._making = asyncio.create_task(self._make())
        await asyncio.shield(self._making)  # who has no time for it leaves it to the next
        async with contextlib.AsyncExitStack() as stack:
            destinations = dict.fromkeys(outside)
            gates = [await stack.enter_async_context(self._gate(to, for_s)) for to in destinations]
            services = {str(gate.file): gate.to for gate in gates if isinstance(gate, ServiceGate)}
            processes = await self._processes()
            stack.callback(os.close, processes)
            yield PlayStation(
                network=self._station.namespace,
                processes=processes,
                files=self._station.mounts | services,
                sockets=(str(self._reaches.folder), *services.values()),
            )

    async def _make(self) -> None:
        control = plan_control(self._knows.plan)
        self._knows.plan = control.plan
        planned = PlannedMachine(
            name=NAME, hostname="station", target="", image=None, links=control.links
        )
        try:
            await self._reaches.place(planned, "namespace")
        except FabricError:
            if not await self._is_there():  # else somebody else has made it, and it is kept
                raise
        self._networks = planned.networks
        self._station.namespace = await namespace_of(self._reaches.fabric, NAME)
        self._station.furnish(self._knows.plan.hosts_file(self._networks), resolv_conf(planned))
        for network, reason in control.left_out.items():
            self._tells.tell("ansible", "note", f"plays are not on network {network}: {reason}")

    async def _is_there(self) -> bool:
        status, _ = await self._reaches.fabric.request("status")
        return NAME in status["machines"]

    async def _processes(self, *addresses: str) -> int:
        """A descriptor of its PID namespace; its loopback answers for further addresses."""
        _, fds = await self._reaches.fabric.request("station", machine=NAME, addresses=addresses)
        os.set_inheritable(fds[0], False)
        return fds[0]

    @contextlib.asynccontextmanager
    async def _gate(self, to: str, for_s: float) -> AsyncIterator[AsyncGate]:
        async with self._opening:
            gate, plays = self._shared.get(to, (None, 0))
            if gate is None or not gate.is_open:
                gate, plays = await self._open_gate(to, for_s), 0
            gate.prolong(for_s)
            self._shared[to] = gate, plays + 1
        try:
            yield gate
        finally:
            await asyncio.shield(self._let_go(to, gate))

    async def _let_go(self, to: str, gate: AsyncGate) -> None:
        async with self._opening:
            current, plays = self._shared.get(to, (None, 0))
            if current is not gate:
                return  # it was closed by time, and another one was opened
            if plays > 1:
                self._shared[to] = gate, plays - 1
                return
            del self._shared[to]
            await gate.aclose()

    async def _open_gate(self, to: str, for_s: float) -> AsyncGate:
        gate = await self._new_gate(to, for_s)
        try:
            await gate._open()
        except BaseException:
            await asyncio.shield(gate.aclose())
            raise
        return gate

    async def _new_gate(self, to: str, for_s: float) -> AsyncGate:
        if to.startswith("/"):
            folder = self._station.folder
            return ServiceGate(self._gates, NAME, to=to, for_s=for_s, folder=folder)
        try:
            host, _ = destination(to)
        except ValueError as error:
            raise GateError(f"outside={to!r}: {error}") from None
        return AsyncGate(self._gates, NAME, to=to, for_s=for_s, at=await self._address(to, host))

    async def _address(self, to: str, host: str) -> str:
        """Where a gate has to listen, so that plays find it by what they call the host.

        Empty: anywhere, as they have a name for it.
        """
        if host in LOCAL_NAMES:
            return "127.0.0.1"
        try:
            address = ip_address(host)
        except ValueError:
            return ""
        if str(address) in self._knows.plan.hosts:
            names = self._knows.plan.hosts[str(address)]
            raise GateError(
                f"outside={to!r}: in layout {self._knows.plan.layout!r} {address} is machine "
                f"{names[0]!r}, and a play could not tell them apart; try: the name that the host "
                "has outside"
            )
        if not address.is_loopback:
            try:
                os.close(await self._processes(f"{address}/{address.max_prefixlen}"))
            except FabricError as error:
                raise GateError(f"outside={to!r}: {error}") from error
        return str(address)

    def close(self) -> None:
        """Let go of its network, which ends with whoever is still in it."""
        self._station.close()
