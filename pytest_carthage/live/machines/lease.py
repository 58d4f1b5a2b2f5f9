"""What a machine's links ask for by DHCP: a dhclient(8) of the host for each, in its network.

The clients and all their files are in the fabric, and end with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address, ip_interface
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pytest_carthage import clock
from pytest_carthage.errors import FabricError, TimeLimitError
from pytest_carthage.fabric.host.programs import PATH

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from pytest_carthage.live.surroundings import Surroundings
    from pytest_carthage.model.network import Address
    from pytest_carthage.planning.plan import (
        Interface,
        PlannedAddressing,
        PlannedLink,
        PlannedMachine,
    )

__all__ = ["Lease", "Leases", "wait_for_prefixes"]

# how long a client may take to end
_STOP_S = 2.0

# $1: 4 or 6, $2: interface, $3: name of its files, $4: -r to give back what was lent, or nothing.
# A client of DHCPv6 needs a link-local address that the kernel has found to be its own (RFC 4862,
# 5.4); only polling tells.
_CLIENT = """\
set -e
base=/run/carthage-dhcp/$3
if [ -z "$4" ]; then
    echo "pid	$$"
    mkdir -p "${base%/*}"
    printf %s "$HOOK" > "$base.hook"
    printf %s "$SETTINGS" > "$base.conf"
    chmod +x "$base.hook"
fi
unset HOOK SETTINGS
duid=
if [ "$1" = 6 ]; then
    duid="-D LL"
    tries=0
    until [ -n "$4" ] || ip -6 address show dev "$2" scope link -tentative | grep -q inet6; do
        [ "$tries" -gt 0 ] || ip link set dev "$2" up
        [ "$tries" -lt 100 ] || { echo "$2 has no link-local address" >&2; exit 1; }
        tries=$((tries + 1))
        sleep 0.03
    done
fi
exec dhclient "-$1" -d $4 $duid -cf "$base.conf" -lf "$base.leases" -pf "$base.pid" \
    -sf "$base.hook" -e "carthage_metric=$METRIC" -e "carthage_gateway=$GATEWAY" \
    -e "carthage_prefixlen=$PREFIXLEN" "$2"
"""

# dhclient.conf(5): ask again soon, for ever
_SETTINGS = """\
send host-name "{hostname}";
initial-delay 0;
initial-interval 1;
backoff-cutoff 2;
reboot 0;
retry 1;
select-timeout 0;
request subnet-mask, broadcast-address, routers, domain-name, domain-name-servers, domain-search,
    interface-mtu, dhcp6.name-servers, dhcp6.domain-search;
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """What a DHCP server has lent to a link."""

    address: Interface
    gateway: Address | None = None
    dns_servers: tuple[Address, ...] = ()
    domains: tuple[str, ...] = ()

    @classmethod
    def parse(cls, fields: list[str]) -> Lease | None:
        """From what the hook tells: address, gateway, servers, domains; None: nothing any more."""
        address, gateway, servers, domains = fields
        if not address:
            return None
        return cls(
            address=ip_interface(address),
            gateway=ip_address(gateway) if gateway else None,
            dns_servers=tuple(ip_address(server) for server in servers.split()),
            domains=tuple(domain.rstrip(".") for domain in domains.split()),
        )


def _asking(machine: PlannedMachine) -> Iterator[tuple[PlannedLink, PlannedAddressing]]:
    for link in machine.links:
        for own in link.addressings:
            if own.dhcp:
                yield link, own


class Reads(Protocol):
    """Reads a machine's files."""

    async def __call__(self, path: str, /) -> str:
        """The text of a file."""
        ...


async def wait_for_prefixes(planned: PlannedMachine, layout: str, read: Reads) -> None:
    """Wait until routers have advertised what required links derive their addresses from.

    :raises TimeLimitError: one was not advertised in time.
    """
    waiting = [
        (link, own.network)
        for link in planned.links
        for own in link.addressings
        if own.slaac and link.required and link.admin_up
    ]
    deadline, pause_s = clock.monotonic_s() + planned.ready_timeout_s, 0.005
    while True:
        # proc(5): address, index, prefix length, scope, flags, interface; in hexadecimal
        rows = [row.split() for row in (await read("/proc/net/if_inet6")).splitlines()]
        having = [(row[5], IPv6Address(bytes.fromhex(row[0]))) for row in rows]
        waiting = [
            (link, network)
            for link, network in waiting
            if not any(name == link.interface and one in network for name, one in having)
        ]
        if not waiting:
            return
        if clock.monotonic_s() + pause_s > deadline:
            link, network = waiting[0]
            has = ", ".join(str(one) for name, one in having if name == link.interface)
            raise TimeLimitError(
                f"machine {planned.name!r} of layout {layout!r}: link "
                f"{link.interface!r} to network {link.network!r}: no router advertised {network} "
                f"after {planned.ready_timeout_s:g} s (last: it has {has or 'no address'}); "
                f"try: a machine with roles=[DhcpServer()] on network {link.network!r}"
            )
        # the kernel answers routers by itself: only polling tells
        await asyncio.sleep(pause_s)
        pause_s = min(pause_s * 1.5, 0.2)


class Leases:
    """The DHCP clients of one machine, and what they were given."""

    def __init__(
        self,
        planned: PlannedMachine,
        surroundings: Surroundings[Any],
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self._planned = planned
        self._surroundings = surroundings
        self._changed = changed
        self._clients: list[_Client] = []

    @property
    def held(self) -> Mapping[str, tuple[Lease, ...]]:
        """Interface to what it was lent, IPv4 first."""
        held: dict[str, tuple[Lease, ...]] = {}
        for client in self._clients:
            if client.lease is not None:
                name = client.link.interface
                held[name] = (*held.get(name, ()), client.lease)
        return held

    async def ask(self) -> None:
        """Start the clients, and wait for what links that are required ask for.

        :raises TimeLimitError: nobody answered in time, with what the client printed last.
        """
        await self.stop()
        self._clients = [
            _Client(self._planned, link, own, self._surroundings, self._changed)
            for link, own in _asking(self._planned)
        ]
        deadline = clock.monotonic_s() + self._planned.ready_timeout_s
        try:
            for client in self._clients:
                client.start()
            for client in self._clients:
                if client.link.required and client.link.admin_up:
                    await client.wait(deadline)
        except BaseException:
            await asyncio.shield(self.stop())
            raise

    async def stop(self, *, tell: bool = True) -> None:
        """End the clients; their addresses go with them.

        :param tell: give them back to the servers.
        """
        clients, self._clients = self._clients, []
        await asyncio.gather(*(client.stop(tell=tell) for client in clients))


class _Client:
    """A dhclient for one family of addresses of one link."""

    def __init__(
        self,
        planned: PlannedMachine,
        link: PlannedLink,
        own: PlannedAddressing,
        surroundings: Surroundings[Any],
        changed: Callable[[], None],
    ) -> None:
        self.link = link
        self.lease: Lease | None = None
        self._planned = planned
        self._own = own
        self._surroundings = surroundings
        self._changed = changed
        self._name = f"{planned.name}.{link.interface}.dhcp{own.network.version}"
        self._log = surroundings.folder / "logs" / f"{self._name}.log"
        self._news = asyncio.Event()
        self._ended: str | None = None
        self._pid: int | None = None
        self._rest = b""
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start it; what it tells is heard until it ends."""
        self._task = asyncio.create_task(self._run(), name=self._name)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        reader, writer = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(reader, False)
        loop.add_reader(reader, self._read, reader)
        try:
            self._ended = f"it ended with status {await self._inside(writer, self._argv())}"
        except FabricError as error:
            self._ended = str(error)
        finally:
            loop.remove_reader(reader)
            os.close(reader)
            os.close(writer)
            self._news.set()

    async def _inside(self, output: int | None, argv: list[str]) -> int:
        """Run a program of the host in the machine's network; returns its status."""
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        log = os.open(self._log, flags, 0o600)
        try:
            reply, _ = await self._surroundings.fabric.request(
                "inside",
                fds=(null, null if output is None else output, log),
                machine=self._planned.name,
                argv=argv,
                env=self._env(),
            )
            return int(reply["status"])
        finally:
            os.close(null)
            os.close(log)

    def _argv(self, *, release: bool = False) -> list[str]:
        arguments = [str(self._own.network.version), self.link.interface, self._name]
        return ["/bin/sh", "-c", _CLIENT, "sh", *arguments, "-r" if release else ""]

    def _env(self) -> dict[str, str]:
        own = self._own
        return {
            "PATH": PATH,
            "HOOK": Path(__file__).with_name("dhcp_hook.sh").read_text(),
            "SETTINGS": _SETTINGS.format(hostname=self._planned.hostname),
            "METRIC": "" if own.metric is None else str(own.metric),
            "GATEWAY": "" if own.gateway is None else str(own.gateway),
            "PREFIXLEN": str(own.network.prefixlen),
        }

    def _read(self, reader: int) -> None:
        try:
            data = os.read(reader, 1 << 16)
        except BlockingIOError:
            return
        if not data:
            asyncio.get_running_loop().remove_reader(reader)
            return
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            match line.decode(errors="replace").split("\t"):
                case ["pid", number]:
                    self._pid = int(number)
                case ["lease", _, *fields] if len(fields) == 4:
                    with contextlib.suppress(ValueError):  # not an address: what a server may say
                        self.lease = Lease.parse(fields)
                        self._changed()
        self._news.set()

    async def wait(self, deadline: float) -> None:
        """Wait until it has a lease; ``deadline`` is monotonic.

        :raises TimeLimitError: it has none by then, or it has ended.
        """
        try:
            async with asyncio.timeout(max(deadline - clock.monotonic_s(), 0)):
                while self.lease is None and self._ended is None:
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            pass
        if self.lease is not None:
            return
        layout, network = self._surroundings.plan.layout, self.link.network
        protocol = "DHCP" if self._own.network.version == 4 else "DHCPv6"
        took = f"after {self._planned.ready_timeout_s:g} s" if self._ended is None else "at all"
        raise TimeLimitError(
            f"machine {self._planned.name!r} of layout {layout!r}: link {self.link.interface!r} to "
            f"network {network!r}: no lease by {protocol} {took} (last: {self._last_words()}); "
            f"log: {self._log}; try: a machine with roles=[DhcpServer()] on network {network!r}"
        )

    def _last_words(self) -> str:
        lines: list[str] = []
        with contextlib.suppress(OSError):
            lines = self._log.read_text(errors="replace").split("\n")
        said = [line.strip() for line in lines if line.strip()]
        return "; ".join([*said[-1:], *([self._ended] if self._ended else [])]) or "it is silent"

    async def stop(self, *, tell: bool) -> None:
        """End it, and give back what was lent; by force, if that takes too long."""
        if self._task is None:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_STOP_S):
                while self._pid is None and not self._task.done():
                    self._news.clear()
                    await self._news.wait()
        if tell and self.lease is not None:
            await self._end(self._argv(release=True))
        for signal in ("TERM", "KILL"):
            await self._end(["/bin/sh", "-c", f"kill -{signal} {self._pid}"])
        self._task.cancel()
        await asyncio.wait([self._task])

    async def _end(self, argv: list[str]) -> None:
        """Have a program end it, if it has not ended yet, and wait for that."""
        assert self._task is not None
        if self._task.done() or self._pid is None:
            return
        with contextlib.suppress(FabricError, TimeoutError):
            async with asyncio.timeout(_STOP_S):
                await self._inside(None, argv)
                await asyncio.shield(self._task)
