"""A live machine on the event loop: everything that can be done with it, as awaitables."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket as sockets
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

from pytest_carthage.access.echo import echo, wanted
from pytest_carthage.access.execution import Interrupted, execute
from pytest_carthage.access.filesystem import AsyncFilesystem
from pytest_carthage.access.link import AsyncLink
from pytest_carthage.errors import CarthageError, FabricError, TimeLimitError
from pytest_carthage.portal import Opening, on_core
from pytest_carthage.provider import Channel, Logs, Means, Powered

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from pytest_carthage.access.ansible import Environment
    from pytest_carthage.access.disturbance import AsyncDisturbance
    from pytest_carthage.access.handle import MachineHandle
    from pytest_carthage.access.lease import Lease, Leases
    from pytest_carthage.access.surroundings import Surroundings
    from pytest_carthage.model.machine import Condition
    from pytest_carthage.planning.plan import PlannedLink, PlannedMachine

__all__ = ["AsyncMachine"]

_RUN_S = 300.0
R = TypeVar("R")
#: a resolver that does not answer is given up after this time
_NAME_S = 15.0
#: ends the lines of ``/etc/hosts`` that lead to gates
_ALIAS_MARK = "# carthage gate"


class AsyncMachine(AsyncFilesystem):
    """A live machine; every coroutine may be awaited from any event loop."""

    def __init__(
        self,
        planned: PlannedMachine,
        means: Means,
        *,
        log: Path,
        surroundings: Surroundings,
    ) -> None:
        layout = surroundings.plan.layout
        super().__init__(
            planned.name,
            who=f"machine {planned.name!r} of layout {layout!r}",
            portal=surroundings.portal,
        )
        self.planned = planned
        self.surroundings = surroundings
        self.offline = surroundings.policy.offline
        self.mirror = planned.image.mirror if planned.image is not None else ""
        self.note = lambda text: surroundings.tell(planned.name, "note", text)
        #: interface name to live link
        self.links: Mapping[str, AsyncLink] = {
            link.interface: AsyncLink(link, self, surroundings) for link in planned.links
        }
        #: name to address, of what this machine alone knows by name: the far ends of its gates
        self.aliases: dict[str, str] = {}
        self._naming = asyncio.Lock()
        #: forwards that are open, each with its connections
        self._forwards: dict[asyncio.Server, set[asyncio.Task[None]]] = {}
        self._had_aliases = False
        self._means = means
        self._log = log
        self._stopped = False
        #: "frozen" or "crashed" while a fault has it so
        self.out_of_order: Literal["frozen", "crashed"] | None = None
        #: DHCP clients, once there are any
        self._leases: Leases | None = None

    @property
    def channel(self) -> Channel:
        """The connection to the machine's agent.

        :raises FabricError: the machine is stopped, frozen or crashed.
        """
        self._refuse_out_of_order()
        if self._stopped:
            raise FabricError(f"{self._who}: it is stopped; try: start()")
        return self._means.channel

    @property
    def is_off(self) -> bool:
        """Whether it is stopped."""
        return self._stopped

    def _refuse_out_of_order(self) -> None:
        if self.out_of_order is not None:
            raise FabricError(f"{self._who}: it is {self.out_of_order}; try: heal()")

    @property
    def addresses(self) -> Mapping[str, str]:
        """Interface name to address, without the prefix length."""
        found = ((link.interface, self._address_of(link)) for link in self.planned.links)
        return {interface: address for interface, address in found if address is not None}

    def lent(self, interface: str) -> Sequence[Lease]:
        """What servers have lent to a link."""
        return self._leases.held.get(interface, ()) if self._leases is not None else ()

    def _address_of(self, link: PlannedLink) -> str | None:
        """The address that a link is known by: what a server lent stands for what was planned."""
        by_version = {one.address.version: str(one.address.ip) for one in self.lent(link.interface)}
        for own in link.addressings:
            version = own.network.version
            if version in by_version:
                return by_version[version]
            if own.address is not None:
                return str(own.address.ip)
        return None

    def address(self, network: str | None = None) -> str:
        """The machine's address in a network; the first that it has where none is named.

        :raises LookupError: it has none there.
        """
        for link in self.planned.links:
            address = self._address_of(link)
            if address is not None and network in (None, link.network, link.interface):
                return address
        raise LookupError(f"{self._who}: no address in network {network!r}; has {self.addresses}")

    def link(self, name: str) -> AsyncLink:
        """The link of this interface, or else the only one to the network of this name.

        :raises LookupError: there is none, or more than one.
        """
        if name in self.links:
            return self.links[name]
        found = [link for link in self.links.values() if link.network == name]
        return self._only(found, f"to network {name!r}")

    def link_to(self, machine: str) -> AsyncLink:
        """The link to a network that this other machine is on, too.

        :raises LookupError: there is none, or more than one.
        """
        plan = self.surroundings.plan
        if machine not in plan.machines:
            raise LookupError(
                f"{self._who}: the layout has no machine {machine!r}; it has {list(plan.machines)}"
            )
        there = {link.network for link in plan.machines[machine].links}
        found = [link for link in self.links.values() if link.network in there]
        return self._only(found, f"to machine {machine!r}")

    def _only(self, found: Sequence[AsyncLink], where: str) -> AsyncLink:
        if len(found) == 1:
            return found[0]
        having = ", ".join(f"{link.interface} ({link.network})" for link in self.links.values())
        raise LookupError(
            f"{self._who}: {len(found) or 'no'} links {where}; it has {having or 'none'}; "
            "try: the name of an interface"
        )

    def __repr__(self) -> str:
        return f"<{self._who} on {self.planned.target}>"

    @property
    def sync(self) -> MachineHandle:
        """The same for synchronous callers."""
        from pytest_carthage.access.handle import MachineHandle

        return MachineHandle(self)

    async def ansible_environment(self) -> Environment:
        """The layout that it is in."""
        return cast("Environment", self.surroundings)

    async def write_names(self, hosts: str | None = None) -> None:
        """Have ``/etc/hosts`` say what the layout says, and :attr:`aliases`.

        :param hosts: its new text; None: what it says already stays.
        """
        self._had_aliases = self._had_aliases or bool(self.aliases)
        # written in place and never empty: programs may be reading it, and a container's
        # cannot be replaced
        flags = os.O_RDWR | os.O_CREAT
        async with self._naming, self._opened("/etc/hosts", flags) as fd:
            if hosts is None:
                hosts = os.pread(fd, 1 << 24, 0).decode(errors="surrogateescape")
            kept = [line for line in hosts.splitlines() if not line.endswith(_ALIAS_MARK)]
            kept += [f"{value} {name} {_ALIAS_MARK}" for name, value in self.aliases.items()]
            data = "".join(f"{line}\n" for line in kept).encode(errors="surrogateescape")
            os.pwrite(fd, data, 0)
            os.ftruncate(fd, len(data))

    # readiness

    @on_core
    async def wait_for(self, condition: Condition, *, timeout_s: float = 60.0) -> None:
        """Wait until a condition holds.

        :raises TimeLimitError: it did not hold in time, with what was seen last.
        """
        deadline = time.monotonic() + timeout_s
        pause_s = 0.005
        while True:
            held, seen = await self._holds(condition, deadline - time.monotonic())
            if held:
                return
            if time.monotonic() + pause_s > deadline:
                raise TimeLimitError(
                    f"{self._who}: no {condition} after {timeout_s:.3g} s (last: {seen}); "
                    f"log: {self._log}; try: pytest-carthage logs {self.name}"
                    f"{await self._last_words()}"
                )
            # nothing tells of a port or a file in another machine: only polling is possible
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 1.5, 0.2)

    async def _last_words(self, lines: int = 5) -> str:
        """The end of its log, for a message: the log may soon be gone."""
        with contextlib.suppress(CarthageError, OSError):
            kept = (await self.logs()).rstrip().splitlines()[-lines:]
            if kept:
                return "; it printed last:\n" + "\n".join(f"  {line}" for line in kept)
        return ""

    async def _holds(self, condition: Condition, left_s: float) -> tuple[bool, str]:
        value = condition.value
        match condition.kind:
            case "port":
                reply, _ = await self.channel.request("listening")
                ports = sorted(
                    {row["port"] for row in reply["listening"] if row["protocol"][:3] == "tcp"}
                )
                return int(value) in ports, f"listening on {ports or 'nothing'}"
            case "file":
                try:
                    await self.channel.request("stat", path=value)
                except FabricError as error:
                    return False, str(error)
                return True, ""
            case "log":
                return value in await self.logs(), "not in its log"
            case "unit":
                argv = ["systemctl", "is-active", value]
            case "command":
                argv = ["/bin/sh", "-c", value]
        try:
            status, out, err = await execute(
                self.channel,
                argv,
                user=condition.user,
                cwd=None,
                env={},
                input=None,
                timeout_s=max(left_s, 0.1),
            )
        except Interrupted:
            return False, "it did not end"
        except FabricError as error:
            return False, str(error)
        text = (err or out).decode(errors="replace").strip()
        return status == 0, f"status {status}: {text or 'no output'}"

    # power

    def powered(self) -> Powered:
        """Its switch.

        :raises CarthageError: its target has none.
        """
        if not isinstance(self._means, Powered):
            raise CarthageError(
                f"{self._who}: target {self.planned.target!r} cannot switch machines on and off"
            )
        return self._means

    @on_core
    async def start(self) -> None:
        """Start the machine after :meth:`stop`, and wait until it is ready; no-op where it runs."""
        if self.out_of_order == "frozen":
            self._refuse_out_of_order()
        if self._stopped:
            await self.powered().start()
            self._stopped = False
            self.out_of_order = None
            plan = self.surroundings.plan
            if self._had_aliases or plan.has_twins:
                await self.write_names(plan.hosts_file(self.planned.networks))
            await self.ask_for_addresses()
            await self.surroundings.welcome.again(self)
            for role in self.planned.roles:
                await role.refresh(self)
            await self.surroundings.welcome.open(self)
        await self.wait_until_ready()

    @on_core
    async def stop(self, *, timeout_s: float = 10.0) -> None:
        """Stop the machine in good order; what is left after the time is killed. Links stay."""
        self._refuse_out_of_order()
        await self.give_addresses_back()
        await self.powered().stop(timeout_s=timeout_s)
        self._stopped = True

    @on_core
    async def restart(self) -> None:
        """Stop and start."""
        await self.stop()
        await self.start()

    @on_core
    async def has_crashed(self) -> None:
        """Take in that it went off without a goodbye."""
        self.out_of_order = "crashed"
        with contextlib.suppress(CarthageError):
            await self.give_addresses_back(tell=False)
        await self.powered().stop(timeout_s=0)
        self._stopped = True

    # faults

    def freeze(self) -> Opening[AsyncDisturbance]:
        """Stop all processes of the machine at once, until it heals.

        Its kernel goes on: it answers pings, and accepts connections that nobody serves.

        :raises FaultError: it is stopped, frozen or crashed already.
        """
        from pytest_carthage.access.disturbance import freeze

        return freeze(self)

    def crash(self) -> Opening[AsyncDisturbance]:
        """Switch the machine off without a goodbye; to heal it is to start it until it is ready.

        :raises FaultError: it is stopped, frozen or crashed already.
        :raises CarthageError: its target cannot start it again.
        """
        from pytest_carthage.access.disturbance import crash

        return crash(self)

    # addresses that are lent

    @on_core
    async def ask_for_addresses(self) -> None:
        """Ask for what links are to get; returns when those that are required have it.

        :raises TimeLimitError: no server and no router answered in time.
        """
        if self.planned.asks_dhcp:
            if self._leases is None:
                from pytest_carthage.access.lease import Leases

                self._leases = Leases(self.planned, self.surroundings, self._told_of_servers)
            await self._leases.ask()
            await self._write_resolv_conf()
        if any(own.slaac for link in self.planned.links for own in link.addressings):
            from pytest_carthage.access.lease import wait_for_prefixes

            await wait_for_prefixes(self)

    @on_core
    async def give_addresses_back(self, *, tell: bool = True) -> None:
        """End the clients of DHCP, where there are any.

        :param tell: the servers hear of it.
        """
        if self._leases is not None:
            await self._leases.stop(tell=tell)

    def _told_of_servers(self) -> None:
        """A server has told something: the resolver is to know, as long as anybody listens here."""
        self._resolving = asyncio.ensure_future(self._write_resolv_conf())
        self.surroundings.resolutions.look(self)

    async def _write_resolv_conf(self) -> None:
        from pytest_carthage.planning.resolver import resolv_conf

        assert self._leases is not None
        leases = [lease for lent in self._leases.held.values() for lease in lent]
        text = resolv_conf(
            self.planned,
            dns_servers=[server for lease in leases for server in lease.dns_servers],
            domains=[domain for lease in leases for domain in lease.domains],
        )
        with contextlib.suppress(FabricError, OSError):  # stopped: learns when it starts
            await self.write_text("/etc/resolv.conf", text)

    @on_core
    async def wait_until_ready(self) -> None:
        """Wait for the conditions that the machine was declared with.

        :raises TimeLimitError: one did not hold in time.
        """
        deadline = time.monotonic() + self.planned.ready_timeout_s
        for condition in self.planned.wait_for:
            await self.wait_for(condition, timeout_s=max(deadline - time.monotonic(), 0.1))

    # network

    @on_core
    async def socket(
        self, family: int = sockets.AF_INET, type: int = sockets.SOCK_STREAM, proto: int = 0
    ) -> sockets.socket:
        """A socket that lives in the machine's network, for the caller to use here."""
        _, fds = await self.channel.request(
            "socket", family=int(family), type=int(type), proto=proto
        )
        return sockets.socket(fileno=fds[0])

    @on_core
    async def connect(
        self,
        port: int,
        host: str | None = None,
        *,
        protocol: Literal["tcp", "udp"] = "tcp",
        timeout_s: float = 10.0,
    ) -> sockets.socket:
        """Connect from inside the machine; returns the blocking socket.

        :param host: an address, or a name, which the machine itself looks up (``/etc/hosts``,
            then its DNS server); the machine itself by default.
        :param protocol: ``"udp"``: a datagram socket that sends there, and hears from there only.
        :raises OSError: nobody answers there, as for any connect. That nobody takes datagrams is
            told by a later ``send`` or ``recv``, if at all (udp(7)).
        """
        if protocol not in ("tcp", "udp"):
            raise ValueError(f"{self._who}: protocol {protocol!r}; try: 'tcp' or 'udp'")
        given: object = port
        if not isinstance(given, int) or not 0 < given < 65536:
            raise ValueError(f"{self._who}: port {port!r} is no number from 1 to 65535")
        kind = sockets.SOCK_STREAM if protocol == "tcp" else sockets.SOCK_DGRAM
        # the name is looked up and the socket made in one go: each costs a way there and back
        reply, fds = await self._about_host(host or "127.0.0.1", "socket", type=int(kind))
        target, sock = reply["address"], sockets.socket(fileno=fds[0])
        try:
            sock.setblocking(False)
            async with asyncio.timeout(timeout_s):
                await asyncio.get_running_loop().sock_connect(sock, (target, port))
        except TimeoutError:
            sock.close()
            raise TimeoutError(
                f"{self._who}: no answer from {target}:{port} after {timeout_s:g} s"
            ) from None
        except OSError as error:
            sock.close()
            raise type(error)(
                error.errno, f"{self._who}: {target}:{port}: {_reason(error)}"
            ) from error
        except BaseException:
            sock.close()
            raise
        sock.setblocking(True)
        return sock

    @on_core
    async def ping(self, host: str, *, timeout_s: float = 5.0) -> float:
        """Send one ICMP echo from inside the machine; returns the seconds until the answer.

        :param host: an address, or a name, which the machine itself looks up.
        :raises OSError: there is no way there; TimeoutError, one of them: no answer in time.
        """
        target = await self._resolve(host)
        try:
            with await self.socket(*wanted(target)) as sock:
                async with asyncio.timeout(timeout_s):
                    return await echo(sock, target)
        except TimeoutError:
            raise TimeoutError(
                f"{self._who}: no echo from {target} after {timeout_s:g} s"
            ) from None
        except OSError as error:
            raise type(error)(error.errno, f"{self._who}: {target}: {error.strerror}") from error

    async def _resolve(self, host: str) -> str:
        reply, _ = await self._about_host(host, "lookup")
        return str(reply["address"])

    async def _about_host(
        self, host: str, op: str, **fields: Any
    ) -> tuple[dict[str, Any], list[int]]:
        """Ask the agent for something that begins with a host's address."""
        try:
            return await self.channel.request(op, host=host, **fields)
        except FabricError as error:
            if error.errno != errno.ENOENT:
                raise
        if (address := await self._ask_name(host)) is not None:
            return await self.channel.request(op, host=address, **fields)
        raise OSError(
            errno.ENOENT,
            f"{self._who}: no host {host!r} in its /etc/hosts, and its resolver knows none",
        )

    async def _ask_name(self, host: str) -> str | None:
        """The address of a name that the machine's own resolver finds, if it finds one."""
        with contextlib.suppress(FabricError, Interrupted):  # it may have no getent(1)
            status, printed, _ = await execute(
                self.channel,
                ["getent", "ahosts", "--", host],
                user=None,
                cwd=None,
                env={},
                input=None,
                timeout_s=_NAME_S,
            )
            if status == 0 and printed:
                return printed.split()[0].decode()
        return None

    @contextlib.asynccontextmanager
    async def forward(self, port: int, host: str | None = None) -> AsyncIterator[int]:
        """A port on the host's loopback that leads into the machine while the block runs."""
        server = await self._open_forward(port, host)
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            await self._close_forward(server)

    @on_core
    async def _open_forward(self, port: int, host: str | None) -> asyncio.Server:
        tasks: set[asyncio.Task[None]] = set()

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            # kept here: the event loop itself forgets who waits for the far end alone
            task = asyncio.create_task(self._relay(reader, writer, port, host))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

        server = await asyncio.start_server(accept, "127.0.0.1", 0)
        self._forwards[server] = tasks
        return server

    async def _relay(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        port: int,
        host: str | None,
    ) -> None:
        """Carry one connection to a port that this machine reaches."""
        try:
            sock = await self.connect(port, host)
        except (OSError, CarthageError):
            writer.transport.abort()
            return
        sock.setblocking(False)
        far_reader, far_writer = await asyncio.open_connection(sock=sock)
        try:
            with contextlib.suppress(OSError):
                await asyncio.gather(_pump(reader, far_writer), _pump(far_reader, writer))
        finally:
            for one in (writer, far_writer):
                one.close()

    @on_core
    async def _close_forward(self, server: asyncio.Server) -> None:
        server.close()
        for task in self._forwards.pop(server, ()):
            task.cancel()

    # looking

    @on_core
    async def logs(self) -> str:
        """What the machine's main process and its init have printed."""
        if isinstance(self._means, Logs):
            return await self._means.logs()
        with contextlib.suppress(FileNotFoundError):
            return self._log.read_text(errors="replace")
        return ""

    @on_core
    async def observe(self) -> dict[str, Any]:
        """What the machine looks like now: processes, listening, addresses, routes (lists)."""
        reply, _ = await self.channel.request("observe")
        return {key: value for key, value in reply.items() if key not in ("id", "ok", "fds")}


def _reason(error: OSError) -> str:
    """The kernel's words: asyncio replaces them by its own."""
    return os.strerror(error.errno) if error.errno else str(error)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()
