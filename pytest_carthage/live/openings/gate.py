"""A gate: the one narrow way out of a sealed layout, for one machine, to one port of one host.

It listens inside the machine, on a loopback address of its own, and hands every connection on
to one that this process makes from the host's network. No route leads out, so it does not
matter what the far end's address means within the layout. What passes is counted and recorded.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import re
import socket
import struct
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Protocol, cast

from pytest_carthage import clock
from pytest_carthage.bridge import Opening, on_core
from pytest_carthage.errors import CarthageError, FabricError, GateError
from pytest_carthage.handles.gates import (
    CUT,
    Ending,
    GateConnection,
    GateRecord,
    GateTotals,
)
from pytest_carthage.live.openings.listening import Listening, listen_there
from pytest_carthage.live.openings.redirect import Redirect, listening
from pytest_carthage.model.mistakes.place import Place
from pytest_carthage.planning.refusal import refusal
from pytest_carthage.portal import Portal

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_carthage.handles.channel import Channel
    from pytest_carthage.live.surroundings import Knows, Reaches, Tells
    from pytest_carthage.planning.plan import Plan

__all__ = ["LOCAL_NAMES", "AsyncGate", "Gate", "Gates", "destination"]

_CONNECT_S = 10.0
_PIECE = 1 << 16
_BACKLOG = 1024
#: connections that have ended, of which more than their number is kept
_MOST_ENDED = 1000
#: from the end of a connection to that of its relay: the kernel hands on when it gets to it
_TAKE_IN_S = 0.05
#: the same, where one side has ended already
_HALF_ENDED_S = 1.0
#: linger for no time: what is closed is reset (socket(7))
_AT_ONCE = struct.pack("ii", 1, 0)
_NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?", re.ASCII)
#: names of whoever looks them up
LOCAL_NAMES = ("localhost", "localhost.localdomain", "ip6-localhost", "ip6-loopback")


def destination(to: object) -> tuple[str, int]:
    """Host, as resolvers take it, and port.

    :raises ValueError: what was seen, and what to do.
    """
    if not isinstance(to, str):
        raise ValueError('no "host:port"; try: to="export.prod.example:443"')
    host, colon, number = to.rpartition(":")
    if "://" in to:
        plain = to.partition("://")[2].partition("/")[0]
        raise ValueError(f'a URL is no destination; try: to="{plain or "host"}:443"')
    if not colon or to.endswith("]") or (":" in host and not host.startswith("[")):
        example = f"[{to}]" if _is_address(to) else to or "export.prod.example"
        if ":" in example and not example.endswith("]"):
            example = example.partition(":")[0]
        raise ValueError(f'no port; try: to="{example}:443"')
    host = host.removeprefix("[").removesuffix("]")
    if not (number.isascii() and number.isdecimal() and 1 <= int(number) <= 65535):
        raise ValueError(f'port {number!r} is no number from 1 to 65535; try: to="{host}:443"')
    try:
        ip_address(host)
    except ValueError:
        try:
            host = host.encode("idna").decode().lower()
        except UnicodeError as error:
            raise ValueError(f"{host!r} is no name of a host ({error})") from None
        host = host.removesuffix(".")
        if not _NAME.fullmatch(host):
            raise ValueError(f'{host!r} is no name of a host; try: to="host:port"') from None
    return host, int(number)


def _is_address(host: str) -> bool:
    with contextlib.suppress(ValueError):
        ip_address(host)
        return True
    return False


class _Relay:
    """One connection while it lasts."""

    __slots__ = (
        "began_at",
        "ended",
        "ended_at",
        "error",
        "is_half_ended",
        "received_bytes",
        "sent_bytes",
    )

    def __init__(self) -> None:
        self.began_at = clock.unix_s()
        self.ended_at: float | None = None
        #: set when ``ended_at`` is
        self.ended = asyncio.Event()
        #: whether one of both sides has said that nothing follows
        self.is_half_ended = False
        self.sent_bytes = 0
        self.received_bytes = 0
        self.error: str | None = None

    def sent(self, count: int) -> None:
        self.sent_bytes += count

    def received(self, count: int) -> None:
        self.received_bytes += count

    async def pump(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        count: Callable[[int], None],
    ) -> None:
        """Hand on what comes, no faster than it is taken, and the end of it."""
        while data := await reader.read(_PIECE):
            count(len(data))
            writer.write(data)
            await writer.drain()
        self.is_half_ended = True
        if writer.can_write_eof():
            try:
                writer.write_eof()
            except OSError as error:
                if error.errno != errno.ENOTCONN:  # it has ended already, and well
                    raise

    @property
    def seen(self) -> GateConnection:
        return GateConnection(
            began_at=self.began_at,
            ended_at=self.ended_at,
            sent_bytes=self.sent_bytes,
            received_bytes=self.received_bytes,
            error=self.error,
        )


class GatedMachine(Protocol):
    """A live machine, as its gates see it."""

    #: name to address, of what it alone knows by name
    aliases: dict[str, str]

    @property
    def name(self) -> str:
        """What people call it."""
        ...

    @property
    def channel(self) -> Channel:
        """The connection to its agent.

        :raises FabricError: it is stopped, frozen or crashed.
        """
        ...

    async def write_names(self) -> None:
        """Have its files say what it knows by name."""
        ...


class Reachable(Protocol):
    """A live machine that connects to itself, for others."""

    async def connect(self, port: int) -> socket.socket:
        """Connect to a port of its own.

        :raises OSError: nobody answers there.
        """
        ...


class Gates:
    """Opens the gates of one live layout, and keeps their record."""

    def __init__(self, *, tells: Tells, knows: Knows[GatedMachine], reaches: Reaches) -> None:
        self.tells = tells
        self.knows = knows
        self.reaches = reaches
        #: every gate that was ever opened, in their order
        self.opened: list[AsyncGate] = []
        #: places that have gates and are no machines, by name
        self.places: dict[str, GatedMachine] = {}

    def handle(self, name: str) -> GatedMachine:
        """A machine, or place, of this name.

        :raises KeyError: there is none.
        """
        return self.places[name] if name in self.places else self.knows.handle(name)

    def open(self, machine: str, *, to: str, for_s: float) -> Opening[AsyncGate, Gate]:
        """Open a gate; it closes by ``aclose()``, after ``for_s``, and with the environment.

        :raises UnsupportedError: the machine has no network of the layout, since its target cannot,
            and who answers for it cannot listen there either.
        """
        plan = self.knows.plan
        if machine in plan.machines and not plan.machines[machine].traits.can("links"):
            operations = getattr(self.handle(machine).channel, "operations", None) or ()
            if "listen" not in operations:
                raise refusal(plan, machine, "links", "gate()", Place.of_author())

        async def begin() -> AsyncGate:
            gate = AsyncGate(self, machine, to=to, for_s=for_s)
            try:
                await gate._open()
            except BaseException:
                await asyncio.shield(gate.aclose())
                raise
            return gate

        return Opening(begin, Gate)

    async def close(self, machine: str | None = None) -> None:
        """Close the gates of a machine, or all."""
        for gate in self.opened:
            if machine in (None, gate.machine):
                await gate.aclose("end")


class AsyncGate:
    """An open gate."""

    def __init__(self, gates: Gates, machine: str, *, to: str, for_s: float, at: str = "") -> None:
        """A gate that is not open yet.

        :param at: address to listen on, which leads to no other host; by default one of its own.
        """
        self.portal: Portal = gates.reaches.portal
        #: name of the machine that it is in
        self.machine = machine
        #: ``"host:port"``, where it leads
        self.to = to
        #: seconds after which it closes by itself
        self.for_s = for_s
        #: address in the machine where it listens; it is what the host's name leads to there
        self.address = ""
        #: port in the machine where it listens, the same as outside; in a machine that is on no
        #: network of the layout another one, if that is taken there
        self.port = self._to_port = 0
        self.host = ""
        self._gates = gates
        self._at = at
        self._number = 0
        self._lock = asyncio.Lock()
        self._server: asyncio.Server | None = None
        self._redirect: Redirect | None = None
        #: where it listens in a machine that is none of this kernel
        self._there: Listening | None = None
        #: the machine of the layout that it leads to, where no network does; None: a host outside
        self._far: Reachable | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._targets: list[tuple[int, Any]] = []
        #: connections that go on, with the last that have ended; and before them, those that have
        #: ended earlier: replaced as a whole, since other threads read it
        self._passed: tuple[GateTotals, tuple[_Relay, ...]] = (GateTotals(), ())
        self._tasks: set[asyncio.Task[None]] = set()
        self._opened_at = self._begin = 0.0
        self._closed_at: float | None = None
        self._closed_by: Ending | None = None

    @property
    def is_open(self) -> bool:
        """Whether it takes connections."""
        return self._server is not None

    @property
    def record(self) -> GateRecord:
        """What it is, and what passed until now."""
        earlier, relays = self._passed
        return GateRecord(
            number=self._number,
            environment=self._gates.tells.name,
            machine=self.machine,
            to=self.to,
            listens=self._listens,
            for_s=self.for_s,
            opened_at=self._opened_at,
            closed_at=self._closed_at,
            closed_by=self._closed_by,
            connections=tuple(relay.seen for relay in relays),
            earlier=earlier,
        )

    @property
    def _listens(self) -> str:
        address = f"[{self.address}]" if ":" in self.address else self.address
        return f"{address}:{self.port}"

    def __repr__(self) -> str:
        return f"<{self._who}>"

    @property
    def _who(self) -> str:
        layout = self._gates.knows.plan.layout
        return f"gate of machine {self.machine!r} of layout {layout!r} to {self.to!r}"

    @property
    def _subject(self) -> str:
        return f"gate {self.machine} to {self.to}"

    # opening

    @on_core
    async def _open(self) -> None:
        async with self._lock:
            machine = self._check()
            self._targets = await self._resolve()
            self._register()
            try:
                sock = await self._listen(machine)
                # nothing may come between the socket and who closes it
                self._server = await asyncio.start_server(
                    self._accept, sock=sock, backlog=_BACKLOG, start_serving=False
                )
            except BaseException:
                self._gates.opened.remove(self)
                await asyncio.shield(self._lead_nowhere())
                raise
            await self._server.start_serving()
            await self._name(machine)
            self._timer = asyncio.get_running_loop().call_later(self.for_s, self._expire)
            self._gates.tells.tell(self._subject, "start", f"{self._listens} for {self.for_s:g} s")

    def _check(self) -> GatedMachine:
        """Refuse what makes no sense, before anything is touched."""
        try:
            self.host, self.port = destination(self.to)
            self._to_port = self.port
        except ValueError as error:
            raise GateError(f"{self._who}: {error}") from None
        for_s: object = self.for_s
        if not isinstance(for_s, int | float) or not for_s > 0:
            raise GateError(f"{self._who}: for_s={self.for_s!r} is no time; try: for_s=60")
        plan = self._gates.knows.plan
        try:
            machine = self._gates.handle(self.machine)
        except KeyError:
            having = ", ".join(plan.machines) or "none"
            raise LookupError(f"{self._who}: no such machine; there are: {having}") from None
        self._far = self._machine_apart(plan)
        if self._has_name and self._far is None:
            own = {name.lower() for names in plan.hosts.values() for name in names}
            if self.host in own:
                raise GateError(
                    f"{self._who}: {self.host!r} is a machine of the layout; try: the full name "
                    "of the host outside, or its address"
                )
        try:
            _ = machine.channel
        except FabricError as error:
            raise GateError(f"{self._who}: {error}") from None
        return machine

    def _machine_apart(self, plan: Plan) -> Reachable | None:
        """The machine that it leads to, if one of both is on no network of the layout."""
        if self.host not in plan.machines or self.host == self.machine:
            return None
        ends = (plan.machines.get(self.machine), plan.machines[self.host])
        if all(end is None or end.traits.can("links") for end in ends):
            return None
        return cast("Reachable", self._gates.handle(self.host))

    @property
    def _is_apart(self) -> bool:
        """Whether its machine is on no network of the layout, and answers for itself."""
        planned = self._gates.knows.plan.machines.get(self.machine)
        return planned is not None and not planned.traits.can("links")

    @property
    def _is_of_this_kernel(self) -> bool:
        """Whether sockets of its machine's network can be had here."""
        planned = self._gates.knows.plan.machines.get(self.machine)
        return planned is None or planned.traits.can("socket")

    @property
    def _has_name(self) -> bool:
        """Whether the far end has a name that can lead to this gate within the machine."""
        return not self._is_apart and not _is_address(self.host) and self.host not in LOCAL_NAMES

    async def _resolve(self) -> list[tuple[int, Any]]:
        if self._far is not None:
            return []
        loop = asyncio.get_running_loop()
        try:
            addresses = await loop.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise GateError(
                f"{self._who}: {self.host!r} does not resolve where the tests run "
                f"({error.strerror}); try: getent hosts {self.host}, or an address instead"
            ) from error
        return [(family, address) for family, _, _, _, address in addresses]

    def _register(self) -> None:
        """Be one of the environment's gates, whose end closes them; and take an address.

        A host has one address in a machine for all its ports, and no other host ever gets it.
        """
        others = self._gates.opened
        taken = {gate.host: gate.address for gate in others if gate.machine == self.machine}
        high, low = divmod(len(taken), 254)
        self.address = self._at or taken.get(self.host, f"127.86.{high}.{low + 1}")
        self._number = max((gate._number for gate in others), default=0) + 1
        self._opened_at, self._begin = clock.unix_s(), clock.monotonic_s()
        others.append(self)

    async def _listen(self, machine: GatedMachine) -> socket.socket:
        if self._is_apart:
            if self._is_double:
                raise GateError(self._taken)
            return await self._listen_there(machine)
        if not self._at and self._is_double:
            raise GateError(self._taken)
        if not self._is_of_this_kernel:
            try:
                self._there = await listen_there(
                    machine.channel,
                    self._gates.reaches.folder,
                    self.port,
                    _BACKLOG,
                    address=self.address,
                )
            except FabricError as error:
                if error.errno == errno.EADDRINUSE:
                    raise GateError(self._taken) from error
                raise GateError(f"{self._who}: {error}") from error
            return self._there.sock
        if not self._at:
            sock = await self._listen_aside(machine)
            if sock is not None:
                return sock
        try:
            _, fds = await self._gates.reaches.fabric.request(
                "socket",
                machine=machine.name,
                family=socket.AF_INET6 if ":" in self.address else socket.AF_INET,
                bind=[self.address, self.port],
                listen=_BACKLOG,
            )
        except FabricError as error:
            if error.errno == errno.EADDRINUSE:
                raise GateError(self._taken) from error
            raise GateError(f"{self._who}: {error}") from error
        return socket.socket(fileno=fds[0])

    async def _listen_there(self, machine: GatedMachine) -> socket.socket:
        """Listen in a machine of another kernel: on another port, if this one is taken."""
        for port in (self.port, 0):
            try:
                there = await listen_there(
                    machine.channel, self._gates.reaches.folder, port, _BACKLOG
                )
            except FabricError as error:
                if port and error.errno == errno.EADDRINUSE:
                    continue
                raise GateError(f"{self._who}: {error}") from error
            self._there, self.address, self.port = there, there.address, there.port
            return there.sock
        raise AssertionError  # both are tried

    async def _listen_aside(self, machine: GatedMachine) -> socket.socket | None:
        """Listen on a port that no service wants, which is led to; None: not on this host."""
        fabric = self._gates.reaches.fabric
        try:
            sock = await listening(fabric, machine.name, self.address, _BACKLOG)
        except FabricError:
            return None
        redirect = Redirect(
            fabric=fabric,
            machine=machine.name,
            address=self.address,
            port=self.port,
            to_port=sock.getsockname()[1],
        )
        try:
            if await redirect.begin():
                self._redirect = redirect
                return sock
        except BaseException:
            sock.close()
            raise
        sock.close()
        return None

    @property
    def _taken(self) -> str:
        return (
            f"{self._who}: port {self.port} is taken on {self.address}: a gate is open there, or a "
            "program of the machine listens on all addresses; try: machine.run('ss -ltn') to see it"
        )

    @property
    def _is_double(self) -> bool:
        """Whether another gate of the machine is open to the same port of the same host."""
        return any(
            gate is not self
            and gate.is_open
            and (gate.machine, gate.host, gate._to_port) == (self.machine, self.host, self._to_port)
            for gate in self._gates.opened
        )

    async def _name(self, machine: GatedMachine) -> None:
        """Have the far end's name lead here in the machine, as long as a gate to it is open."""
        if not self._has_name:
            return
        is_open = any(
            gate.is_open and (gate.machine, gate.host) == (self.machine, self.host)
            for gate in self._gates.opened
        )
        if is_open == (self.host in machine.aliases):
            return
        if is_open:
            machine.aliases[self.host] = self.address
        else:
            del machine.aliases[self.host]
        await machine.write_names()

    # relaying

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._server is None:  # it was closed meanwhile
            _reset(writer)
            return
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        relay = _Relay()
        earlier, relays = self._passed
        self._passed = earlier, (*relays, relay)
        writers = [writer]
        try:
            far_reader, far_writer = await self._reach()
            writers.append(far_writer)
            async with asyncio.TaskGroup() as group:
                group.create_task(relay.pump(reader, far_writer, relay.sent))
                group.create_task(relay.pump(far_reader, writer, relay.received))
            for one in writers:
                one.close()
            for one in writers:
                await one.wait_closed()
        except* OSError as errors:
            relay.error = _first(errors)
            self._gates.tells.tell(self._subject, "note", relay.error)
        except* asyncio.CancelledError:
            relay.error = CUT
        finally:
            relay.ended_at = clock.unix_s()
            relay.ended.set()
            self._forget_the_oldest()
            for one in writers:
                _reset(one)

    def _forget_the_oldest(self) -> None:
        """Of very many connections that have ended, merely count the one that began first."""
        earlier, relays = self._passed
        ended = [relay for relay in relays if relay.ended_at is not None]
        if len(ended) > _MOST_ENDED:
            rest = tuple(relay for relay in relays if relay is not ended[0])
            self._passed = earlier.plus(ended[0].seen), rest

    async def _reach(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect to the far end, by the first of its addresses that answers."""
        if self._far is not None:
            sock = await self._far.connect(self._to_port)
            sock.setblocking(False)
            return await asyncio.open_connection(sock=sock)
        loop = asyncio.get_running_loop()
        failed: OSError | None = None
        for family, address in self._targets:
            sock = socket.socket(family, socket.SOCK_STREAM)
            try:
                sock.setblocking(False)
                async with asyncio.timeout(_CONNECT_S):
                    await loop.sock_connect(sock, address)
                return await asyncio.open_connection(sock=sock)
            except BaseException as error:
                sock.close()
                if not isinstance(error, OSError):
                    raise
                reason = os.strerror(error.errno) if error.errno else f"silent for {_CONNECT_S:g} s"
                failed = OSError(error.errno, f"{address[0]}:{self.port}: {reason}")
        assert failed is not None  # a name that resolves has addresses
        raise failed

    # the end

    def prolong(self, for_s: float) -> None:
        """Have it stay open for this time from now on, if that is longer than it would."""
        loop = asyncio.get_running_loop()
        if self._timer is not None and self._timer.when() < loop.time() + for_s:
            self._timer.cancel()
            self._timer = loop.call_later(for_s, self._expire)

    def _expire(self) -> None:
        task = asyncio.get_running_loop().create_task(self._close("time"))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    @on_core
    async def aclose(self, by: Ending = "test") -> None:
        """Close it: connections are cut, and what tries later is refused."""
        await asyncio.shield(self._close(by))

    async def _close(self, by: Ending) -> None:
        async with self._lock:
            server, self._server = self._server, None
            if server is None:
                return
            server.close()
            if self._timer is not None:
                self._timer.cancel()
            await self._take_in()
            cut = [task for task in self._tasks if task is not asyncio.current_task()]
            for task in cut:
                task.cancel()
            await asyncio.gather(*cut, return_exceptions=True)
            self._closed_at, self._closed_by = clock.unix_s(), by
            with contextlib.suppress(CarthageError, OSError, KeyError):  # it is stopped, or gone
                await self._name(self._gates.handle(self.machine))
            await self._lead_nowhere()  # not before: what is cut is told by the same way
            self._gates.tells.tell(self._subject, "done", _summary(self.record), self._begin)

    async def _lead_nowhere(self) -> None:
        there, self._there = self._there, None
        if there is not None:
            await there.end()
        redirect, self._redirect = self._redirect, None
        if redirect is not None:
            await redirect.end()

    async def _take_in(self) -> None:
        """Take in what has happened by now: who has just hung up was not cut."""
        for limit_s, is_half in ((_TAKE_IN_S, False), (_HALF_ENDED_S, True)):
            relays = [one for one in self._passed[1] if one.ended_at is None]
            if is_half:
                relays = [one for one in relays if one.is_half_ended]
            ends = [asyncio.ensure_future(one.ended.wait()) for one in relays]
            if ends:
                _, waiting = await asyncio.wait(ends, timeout=limit_s)
                for end in waiting:
                    end.cancel()


def _first(errors: BaseExceptionGroup[OSError]) -> str:
    """The first cause, in the kernel's words."""
    error: BaseException = errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _summary(record: GateRecord) -> str:
    count = record.count
    text = (
        f"{count} connection{'' if count == 1 else 's'}, {record.sent_bytes} bytes out, "
        f"{record.received_bytes} bytes in"
    )
    return text + (f", {record.failed} failed" if record.failed else "")


def _reset(writer: asyncio.StreamWriter) -> None:
    """Have the other end see that this is no good end; nothing, where it has ended well."""
    sock = writer.get_extra_info("socket")
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
    writer.transport.abort()


class Gate:
    """A gate for synchronous callers: open while the ``with`` block runs."""

    def __init__(self, opening: Opening[AsyncGate, Gate], portal: Portal) -> None:
        self._opening = opening
        self._portal = portal
        self._aio: AsyncGate | None = None

    @property
    def aio(self) -> AsyncGate:
        """The same, to be awaited.

        :raises RuntimeError: it was not opened.
        """
        if self._aio is None:
            raise RuntimeError("this gate was not opened; try: with layout.gate(...) as gate:")
        return self._aio

    def __enter__(self) -> Gate:
        try:
            self._aio = self._portal.call(self._opening.__aenter__)
        except BaseException:  # Ctrl-C, when it was open already
            self._portal.call(self._opening.__aexit__)
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close it: connections are cut, and what tries later is refused."""
        if self._aio is not None:
            self._portal.call(self._aio.aclose)

    @property
    def machine(self) -> str:
        """Name of the machine that it is in."""
        return self.aio.machine

    @property
    def to(self) -> str:
        """Where it leads, ``"host:port"``."""
        return self.aio.to

    @property
    def address(self) -> str:
        """Address in the machine where it listens; the host's name leads to it there."""
        return self.aio.address

    @property
    def port(self) -> int:
        """Port in the machine where it listens, the same as outside.

        In a machine that is on no network of the layout, another one if that is taken there.
        """
        return self.aio.port

    @property
    def is_open(self) -> bool:
        """Whether it takes connections."""
        return self._aio is not None and self._aio.is_open

    @property
    def record(self) -> GateRecord:
        """What it is, and what passed until now."""
        return self.aio.record
