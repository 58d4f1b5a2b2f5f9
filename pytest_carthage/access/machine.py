"""A live machine on the event loop: everything that can be done with it, as awaitables."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import shutil
import socket as sockets
import stat
import time
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from pytest_carthage.access.command import Result
from pytest_carthage.access.echo import echo, wanted
from pytest_carthage.access.execution import Interrupted, execute
from pytest_carthage.access.link import AsyncLink
from pytest_carthage.errors import CarthageError, CommandError, FabricError, TimeLimitError
from pytest_carthage.portal import Opening, Portal, on_core
from pytest_carthage.provider import Channel, Logs, Means, Powered

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence

    from pytest_carthage.access.disturbance import AsyncDisturbance
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


class AsyncMachine:
    """A live machine; every coroutine may be awaited from any event loop."""

    def __init__(
        self,
        planned: PlannedMachine,
        means: Means,
        *,
        log: Path,
        surroundings: Surroundings,
    ) -> None:
        self.planned = planned
        self.surroundings = surroundings
        self.portal: Portal = surroundings.portal
        #: interface name to live link
        self.links: Mapping[str, AsyncLink] = {
            link.interface: AsyncLink(link, self, surroundings) for link in planned.links
        }
        #: every command that was run through this handle, in the order of their ends
        self.commands: list[Result] = []
        #: name to address, of what this machine alone knows by name: the far ends of its gates
        self.aliases: dict[str, str] = {}
        self._naming = asyncio.Lock()
        #: forwards that are open, each with its connections
        self._forwards: dict[asyncio.Server, set[asyncio.Task[None]]] = {}
        self._had_aliases = False
        self._means = means
        self._layout = surroundings.plan.layout
        self._log = log
        self._stopped = False
        #: "frozen" or "crashed" while a fault has it so
        self.out_of_order: Literal["frozen", "crashed"] | None = None
        #: DHCP clients, once there are any
        self._leases: Leases | None = None

    @property
    def name(self) -> str:
        """Name in the layout."""
        return self.planned.name

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

    @property
    def _who(self) -> str:
        return f"machine {self.name!r} of layout {self._layout!r}"

    def __repr__(self) -> str:
        return f"<{self._who} on {self.planned.target}>"

    # commands

    @on_core
    async def run(
        self,
        command: str | Sequence[str | os.PathLike[str]],
        *,
        user: str | None = None,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        input: str | bytes | None = None,
        timeout_s: float | None = _RUN_S,
        check: bool = True,
    ) -> Result:
        """Run a command in the machine and wait for its end.

        :param command: text for ``/bin/sh -c``, or a sequence of arguments.
        :param user: name or number; root by default.
        :param cwd: working folder; the user's home by default.
        :param env: added to the machine's environment.
        :param input: standard input; empty by default.
        :param timeout_s: None: for ever.
        :param check: raise when the exit status is not 0.
        :raises CommandError: the exit status is not 0, or the program is missing.
        :raises TimeLimitError: it did not end in time, with the output so far; it was killed.
        """
        argv = (
            ["/bin/sh", "-c", command]
            if isinstance(command, str)
            else [os.fspath(word) for word in command]
        )
        if not argv:
            raise ValueError(f"{self._who}: an empty sequence is no command")
        kept = command if isinstance(command, str) else tuple(argv)
        data = input.encode() if isinstance(input, str) else input
        started_at, begin = time.time(), time.monotonic()

        def result(status: int, stdout: bytes, stderr: bytes) -> Result:
            text = stdout.decode(errors="replace")
            made = Result(
                machine=self.name,
                command=kept,
                status=status,
                stdout=text,
                raw_stdout=stdout if "\ufffd" in text else None,
                stderr=stderr.decode(errors="replace"),
                started_at=started_at,
                duration_s=time.monotonic() - begin,
                user=user,
            )
            self.commands.append(made)
            return made

        try:
            done = result(
                *await execute(
                    self.channel,
                    argv,
                    user=user,
                    cwd=cwd,
                    env=env or {},
                    input=data,
                    timeout_s=timeout_s,
                )
            )
        except Interrupted as interrupted:
            cut = result(-9, interrupted.stdout, interrupted.stderr)
            raise TimeLimitError(
                f"{self._who}: {cut.text!r} did not end in {timeout_s:g} s and was killed; "
                f"output so far:\n{_tail(cut)}"
            ) from None
        except FabricError as error:
            if error.errno not in (errno.ENOENT, errno.EACCES, errno.ENOTDIR, errno.ENOEXEC):
                raise
            status = 127 if error.errno == errno.ENOENT else 126
            done = result(status, b"", str(error).encode())
        if check and not done.ok:
            who = f" as {user}" if user else ""
            raise CommandError(
                f"{self._who}: {done.text!r}{who} exited with status {done.status} "
                f"after {done.duration_s:.2f} s; it printed:\n{_tail(done)}",
                done,
            )
        return done

    # files

    @contextlib.asynccontextmanager
    async def _opened(
        self, path: str, flags: int, mode: int | None = None, user: str | None = None
    ) -> AsyncIterator[int]:
        try:
            _, fds = await self.channel.request(
                "open", path=path, flags=flags, mode=mode, user=user
            )
        except FabricError as error:
            raise _file_error(error, self._who, path) from error
        try:
            yield fds[0]
        finally:
            os.close(fds[0])

    @on_core
    async def read_text(self, path: str) -> str:
        """Read a text file (UTF-8).

        :raises FileNotFoundError: it is not there; and so on for other causes.
        """
        async with self._opened(path, os.O_RDONLY) as fd:
            return (await _in_thread(_read_all, fd)).decode()

    @on_core
    async def write_text(
        self, path: str, text: str, *, mode: int | None = None, user: str | None = None
    ) -> None:
        """Write a text file (UTF-8) in place of what is there.

        :param mode: permission bits; 0o644 by default.
        :param user: who owns it.
        """
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        async with self._opened(path, flags, mode, user) as fd:
            await _in_thread(_write_all, fd, data=text.encode())

    @on_core
    async def put(
        self,
        source: str | Path,
        target: str,
        *,
        mode: int | None = None,
        user: str | None = None,
    ) -> None:
        """Copy a file, or a folder with all that is in it, from the host into the machine.

        Missing folders on the way are made. A ``target`` that ends with ``/`` is a folder.
        Symbolic links in a folder stay links.

        :raises FileNotFoundError: there is no such file on the host.
        """
        source = Path(source)
        if target.endswith("/"):
            target += source.name
        if not source.is_dir():
            await self._mkdirs(str(PurePosixPath(target).parent))
            await self._put_file(source, target, mode, user)
            return
        await self._mkdirs(target, source, user)
        for path in sorted(source.rglob("*")):
            inside = f"{target}/{path.relative_to(source)}"
            if path.is_symlink():
                await self._link(inside, str(path.readlink()))
            elif path.is_dir():
                await self._mkdirs(inside, path, user)
            else:
                await self._put_file(path, inside, mode, user)

    async def _mkdirs(self, path: str, like: Path | None = None, user: str | None = None) -> None:
        """Make a folder, where there is none, with the permissions of one on the host."""
        mode = None if like is None else stat.S_IMODE(_mode_of(like))
        try:
            await self.channel.request("mkdirs", path=path, mode=mode, user=user)
        except FabricError as error:
            raise _file_error(error, self._who, path) from error

    async def _link(self, path: str, target: str) -> None:
        try:
            await self.channel.request("symlink", path=path, target=target)
        except FabricError as error:
            raise _file_error(error, self._who, path) from error

    async def _put_file(
        self, source: Path, target: str, mode: int | None, user: str | None
    ) -> None:
        kind = _mode_of(source)
        if not stat.S_ISREG(kind):  # to open a pipe would block all that lives on this loop
            raise OSError(errno.EINVAL, f"{self._who}: put takes files and folders", str(source))
        bits = stat.S_IMODE(kind) if mode is None else mode
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        with source.open("rb") as file:
            async with self._opened(target, flags, bits, user) as fd:
                await _in_thread(_copy, file.fileno(), fd)

    @on_core
    async def get(self, source: str, target: str | Path) -> Path:
        """Copy a file from the machine to the host; returns where it is now.

        A ``target`` that is a folder gets a file of the same name.

        :raises FileNotFoundError: it is not there; IsADirectoryError: it is a folder.
        """
        target = Path(target)
        if target.is_dir():
            target /= PurePosixPath(source).name
        async with self._opened(source, os.O_RDONLY) as fd:
            if stat.S_ISDIR(os.fstat(fd).st_mode):
                raise IsADirectoryError(errno.EISDIR, f"{self._who}: get takes a file", source)
            with target.open("wb") as file:
                await _in_thread(_copy, fd, file.fileno())
        return target

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
            for role in self.planned.roles:
                await role.refresh(self)
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


def _tail(result: Result, lines: int = 20) -> str:
    text = "\n".join(part for part in (result.stdout.rstrip(), result.stderr.rstrip()) if part)
    kept = text.splitlines()[-lines:]
    return "\n".join(f"  {line}" for line in kept) or "  (nothing)"


def _mode_of(path: Path) -> int:
    return path.stat().st_mode


def _reason(error: OSError) -> str:
    """The kernel's words: asyncio replaces them by its own."""
    return os.strerror(error.errno) if error.errno else str(error)


def _file_error(error: FabricError, who: str, path: str) -> Exception:
    if error.errno is None:
        return error
    return OSError(error.errno, f"{who}: {os.strerror(error.errno)}", path)


async def _in_thread(work: Callable[..., R], *fds: int, **more: Any) -> R:
    """Run what blocks in a thread, with descriptors of its own.

    Who is cancelled here closes theirs, while the thread goes on: it must not meet a number that
    means another file by then.
    """
    own = [os.dup(fd) for fd in fds]

    def run() -> R:
        try:
            return work(*own, **more)
        finally:
            for fd in own:
                os.close(fd)

    return await asyncio.to_thread(run)


def _read_all(fd: int) -> bytes:
    parts = []
    while data := os.read(fd, 1 << 20):
        parts.append(data)
    return b"".join(parts)


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _copy(source: int, target: int) -> None:
    with (
        os.fdopen(source, "rb", closefd=False) as reader,
        os.fdopen(target, "wb", closefd=False) as writer,
    ):
        shutil.copyfileobj(reader, writer, 1 << 20)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()
