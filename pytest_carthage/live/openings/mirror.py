"""The package mirror of a live layout: machines with apt find it where they find nobody else.

Each has a socket that listens on a loopback address of its own, and a file that tells its apt of
it. The process that answers is started when the first machine asks.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import re
import socket
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Protocol

from pytest_carthage.channels.agent import Interrupted, execute
from pytest_carthage.channels.deputy import deputy_command
from pytest_carthage.errors import CarthageError, FabricError
from pytest_carthage.images.policy import Policy
from pytest_carthage.mirror.authority import Authority
from pytest_carthage.mirror.settings import ADDRESS, Client, Settings
from pytest_carthage.store.packages import packages_folder

if TYPE_CHECKING:
    from pytest_carthage.handles.channel import Channel
    from pytest_carthage.live.runs import StartsDeputies
    from pytest_carthage.live.surroundings import Knows, Reaches, Tells
    from pytest_carthage.planning.plan import PlannedMachine

__all__ = ["Mirror"]

#: the first of them that nobody else has in a machine. What starts connections takes none of
#: these (ip_local_port_range of ip-sysctl), and no service is known for one
PORTS = range(64186, 64196)
_BACKLOG = 128
_NO_APT = 3
_FURNISH_S = 60.0
#: bytes of a message from the process
_LARGEST = 1 << 16

#: the last file of its kind: whatever proxy production has, here is none but this
_FILE = "/etc/apt/apt.conf.d/zz-carthage"
#: whose certificates apt takes for addresses with https
_CERTIFICATE = "/etc/apt/carthage.pem"
_CONFIGURATION = """\
// pytest-carthage: packages of a sealed machine come from the mirror of its layout
Acquire::http::Proxy "http://{address}:{port}";
Acquire::https::Proxy "http://{address}:{port}";
Acquire::https::CAInfo "{certificate}";
// what was fetched once is served, also when it is old
Acquire::Check-Valid-Until "false";
Acquire::Languages "none";
Acquire::IndexTargets::deb::Packages::CompressionTypes "uncompressed xz bz2 lzma gz";
"""
_PIP = """\
[global]
index-url = http://{address}:{port}/pip/simple
trusted-host = {address}
disable-pip-version-check = true
"""
_NPM = """\
registry=http://{address}:{port}/npm/
audit=false
fund=false
update-notifier=false
"""
#: lists that were never fetched are as old as can be, for whoever looks how old they are
_FURNISH = f"""\
is_asked=$1 pip=$2 npm=$3 certificate=$4
[ -z "$pip" ] || [ -e /etc/pip.conf ] || printf %s "$pip" > /etc/pip.conf
for f in /etc/npmrc /usr/etc/npmrc; do
[ -z "$npm" ] || [ -e $f ] || {{ mkdir -p ${{f%/*}} && printf %s "$npm" > $f; }}
done
if [ -d /etc/apt/apt.conf.d ]; then
cat > {_FILE} && printf %s "$certificate" > {_CERTIFICATE} || exit
else [ -n "$is_asked" ] || exit {_NO_APT}; fi
set -- /var/lib/apt/lists/*Release
[ -e "$1" ] || touch -d @0 /var/lib/apt/lists 2>/dev/null
cat /etc/os-release 2>/dev/null || :
"""
_CODENAME = re.compile(r"(?m)^VERSION_CODENAME=[\"']?([a-z0-9.-]+)")


class MirroredMachine(Protocol):
    """A live machine, as the mirror sees it."""

    planned: PlannedMachine

    @property
    def channel(self) -> Channel:
        """The connection to its agent.

        :raises FabricError: it is stopped, frozen or crashed.
        """
        ...


class Mirror:
    """Serves packages to the machines of one live layout."""

    def __init__(
        self,
        *,
        tells: Tells,
        knows: Knows[Any],
        reaches: Reaches,
        starts: StartsDeputies,
        policy: Policy,
    ) -> None:
        self._tells = tells
        self._knows = knows
        self._reaches = reaches
        self._starts = starts
        self._policy = policy
        #: machine to what listens there, as long as none has asked
        self._waiting: dict[str, tuple[Client, socket.socket]] = {}
        #: name to version of what may be had
        self._allowed: list[Mapping[str, str]] = []
        if policy.lock is not None:
            self._allowed += [image.packages for image in policy.lock.images.values()]
        self._control: socket.socket | None = None
        self._trusted: str | None = None
        self._starting = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    def allow(self, packages: Mapping[str, str]) -> None:
        """An image of the layout has packages: its machines may have them.

        :param packages: name to version.
        """
        if packages not in self._allowed:
            self._allowed.append(packages)
            self._send({"allow": dict(packages)})

    async def furnish(self, machine: MirroredMachine) -> None:
        """Have a machine's apt find the mirror; one without apt stays as it is.

        :raises FabricError: its agent is gone.
        """
        planned: PlannedMachine = machine.planned
        if planned.image is None or not planned.traits.can("links"):
            return
        listener = await self._listen(planned.name)
        if listener is None:
            return
        _, port = listener.getsockname()
        try:
            certificate = await self._certificate()
            packages = self._knows.plan.packages
            pip, npm = (
                text.format(address=ADDRESS, port=port) if is_asked else ""
                for text, is_asked in ((_PIP, packages.pip), (_NPM, packages.npm))
            )
            text = _CONFIGURATION.format(address=ADDRESS, port=port, certificate=_CERTIFICATE)
            words = ["y" if pip or npm else "", pip, npm, certificate]
            # none of those that the author's tests run
            status, printed, _ = await execute(
                machine.channel,
                ["/bin/sh", "-c", _FURNISH, "sh", *words],
                user=None,
                cwd="/",
                env={},
                input=text.encode(),
                timeout_s=_FURNISH_S,
            )
        except BaseException as error:
            listener.close()
            if isinstance(error, CarthageError | OSError | Interrupted):
                return  # it has not even a shell
            raise
        if status:
            listener.close()
            return
        suite = _CODENAME.search(printed.decode(errors="replace"))
        client = Client(
            machine=planned.name,
            suite=planned.image.suite or (suite[1] if suite else ""),
            mirror=planned.image.archive,
        )
        self._waiting[planned.name] = client, listener
        asyncio.get_running_loop().add_reader(listener.fileno(), self._wake, planned.name)

    async def _certificate(self) -> str:
        """The certificate of who signs for addresses with https; empty: nobody can here."""

        def read() -> str:
            authority = Authority(folder=packages_folder() / "mirror" / "authority")
            return authority.certificate.read_text() if authority.make() else ""

        if self._trusted is None:
            self._trusted = await asyncio.to_thread(read)
        return self._trusted

    async def _listen(self, machine: str) -> socket.socket | None:
        """A socket that listens in a machine; None: its network is not of this kernel."""
        for port in PORTS:
            try:
                _, fds = await self._reaches.fabric.request(
                    "socket", machine=machine, bind=[ADDRESS, port], listen=_BACKLOG
                )
            except FabricError as error:
                if error.errno != errno.EADDRINUSE:
                    return None
            else:
                return socket.socket(fileno=fds[0])
        return None

    def _wake(self, machine: str) -> None:
        """A machine asks for the first time."""
        client, listener = self._waiting.pop(machine)
        asyncio.get_running_loop().remove_reader(listener.fileno())
        task = asyncio.create_task(self._hand_over(client, listener))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _hand_over(self, client: Client, listener: socket.socket) -> None:
        with listener:
            try:
                await self._start()
            except (CarthageError, OSError) as error:
                self._tells.tell(client.machine, "note", f"packages cannot be served: {error}")
                return
            self._send({"client": asdict(client)}, listener.fileno())

    async def _start(self) -> None:
        """Start the process, where none was started."""
        async with self._starting:
            if self._control is not None:
                return
            plan = self._knows.plan
            settings = Settings(
                layout=plan.layout,
                folder=str(await asyncio.to_thread(packages_folder)),
                offline=self._policy.offline,
                is_open=plan.packages.is_open,
                names=plan.packages.chosen,
                repositories=plan.packages.repositories,
                pip=_index(plan.packages.pip),
                npm=_index(plan.packages.npm),
            )
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with theirs:
                try:
                    await self._starts.deputy(
                        self._tells.name,
                        deputy_command("pytest_carthage.mirror.process:serve", settings.record),
                        env=os.environ,  # the host's proxies and certificates
                        log=self._reaches.folder / "logs" / "mirror.log",
                        control=theirs.fileno(),
                    )
                except BaseException:
                    ours.close()
                    raise
            ours.setblocking(False)
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
            self._control = ours
            asyncio.get_running_loop().add_reader(ours.fileno(), self._read)
            for packages in self._allowed:
                self._send({"allow": dict(packages)})

    def _send(self, message: Mapping[str, Any], *fds: int) -> None:
        if self._control is not None:
            with contextlib.suppress(OSError):  # it has ended: machines are told by their apt
                socket.send_fds(self._control, [json.dumps(message).encode()], list(fds))

    def _read(self) -> None:
        """Take in what was refused."""
        assert self._control is not None
        try:
            data = self._control.recv(_LARGEST)
        except OSError:
            data = b""
        if data:
            message = json.loads(data)
            self._tells.tell(message["machine"], "note", f"packages: {message['note']}")
        else:
            asyncio.get_running_loop().remove_reader(self._control.fileno())

    async def leave(self, machine: str) -> None:
        """A machine goes: its network must not outlive it."""
        if machine in self._waiting:
            _, listener = self._waiting.pop(machine)
            asyncio.get_running_loop().remove_reader(listener.fileno())
            listener.close()
        self._send({"leave": machine})

    async def stay(self) -> None:
        """The environment outlives this process: whoever has not asked yet may do so later."""
        for machine in list(self._waiting):
            self._wake(machine)
        await asyncio.gather(*self._tasks)

    async def close(self) -> None:
        """Let go of everything; the process ends with its environment."""
        for machine in list(self._waiting):
            await self.leave(machine)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._control is not None:
            asyncio.get_running_loop().remove_reader(self._control.fileno())
            self._control.close()
            self._control = None


def _index(given: bool | str) -> str:
    return given if isinstance(given, str) else "host" if given else ""
