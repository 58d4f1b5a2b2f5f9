"""Blocking code of this process in a network of a layout: HTTP clients, subprocesses, anything.

A *station* is a place for it: a network namespace of the fabric with a link to the network and
an address of its own there. A thread that enters it has that network alone, and the layout's
names; what it starts (threads, processes) has the same. Nothing else of this process changes:
namespaces belong to threads (namespaces(7)).
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import re
import socket
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_carthage.bridge import on_core
from pytest_carthage.errors import FabricError, HostError, Problem
from pytest_carthage.fabric import syscalls
from pytest_carthage.fabric.host import privilege
from pytest_carthage.planning import plan_station
from pytest_carthage.planning.plan import PlannedMachine
from pytest_carthage.planning.resolver import resolv_conf
from pytest_carthage.portal import Portal

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pytest_carthage.handles.channel import Channel
    from pytest_carthage.live.surroundings import Knows, Reaches

__all__ = ["Inside", "Station", "Stations", "namespace_behind", "namespace_of"]

#: ioctl that gives the network namespace of a socket (linux/sockios.h, since Linux 4.9)
_SIOCGSKNS = 0x894C
_NSSWITCH = Path("/etc/nsswitch.conf")
_NSCD = Path("/run/nscd")


class Station:
    """A place on a network for programs of the host."""

    def __init__(self, network: str, folder: Path) -> None:
        #: name of the network
        self.network = network
        #: descriptor of its network namespace; -1 as long as there is none
        self.namespace = -1
        #: its addresses, with their prefix lengths
        self.addresses: tuple[str, ...] = ()
        #: what its threads see in place of the host's files, path to path
        self.mounts: dict[str, str] = {}
        #: taken while it is made
        self.making = asyncio.Lock()
        #: for its files
        self.folder = folder

    def furnish(self, hosts: str, resolver: str) -> None:
        """Prepare the files by which names are looked up."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.tell_hosts(hosts)
        self._replace("/etc/hosts", "hosts")
        self._write("resolv.conf", resolver)
        self._replace("/etc/resolv.conf", "resolv.conf")
        with contextlib.suppress(FileNotFoundError):
            text = _NSSWITCH.read_text()
            plain = re.sub(r"(?m)^(\s*hosts:).*$", r"\1 files dns", text)
            if plain != text:  # services that would ask the host's own resolver
                self._write("nsswitch.conf", plain)
                self._replace(str(_NSSWITCH), "nsswitch.conf")
        if _NSCD.is_dir():  # a cache of what the host knows
            (self.folder / "nothing").mkdir(exist_ok=True)
            self._replace(str(_NSCD), "nothing")

    def tell_hosts(self, hosts: str) -> None:
        """Write its ``/etc/hosts``, also for those who are inside."""
        if self.folder.is_dir():  # it is being made, or could not be
            self._write("hosts", hosts)

    def _write(self, name: str, text: str) -> None:
        path = self.folder / name
        if not path.exists() or path.read_text() != text:
            path.write_text(text)  # in place: it may be mounted somewhere

    def _replace(self, path: str, name: str) -> None:
        if Path(path).exists():  # a mount needs something to cover
            self.mounts[str(self.folder / name)] = path

    def close(self) -> None:
        """Let go of the namespace; it ends with whoever is still in it."""
        if self.namespace >= 0:
            os.close(self.namespace)
            self.namespace = -1

    def __repr__(self) -> str:
        return f"<station on {self.network}: {', '.join(self.addresses)}>"


class Stations:
    """The places that this process has on the networks of one live layout."""

    def __init__(self, *, knows: Knows[Any], reaches: Reaches) -> None:
        self._knows = knows
        self._reaches = reaches
        self.portal: Portal = reaches.portal
        #: network to station, of those that were asked for
        self.made: dict[str, Station] = {}

    @on_core
    async def station(self, network: str) -> Station:
        """Find a network's station, or make it.

        :raises LookupError: there is no such network, or no address is left in it.
        :raises FabricError: the fabric refused it.
        """
        plan, link = plan_station(self._knows.plan, network)
        self._knows.plan = plan
        folder = self._reaches.folder / "stations" / network
        station = self.made.setdefault(network, Station(network, folder))
        async with station.making:
            if station.namespace < 0:
                planned = PlannedMachine(
                    name=f"station:{network}",  # no machine can be called like this
                    hostname="station",
                    target="",
                    image=None,
                    links=(link,),
                )
                try:
                    await self._reaches.place(planned, "namespace")
                except FabricError:
                    status, _ = await self._reaches.fabric.request("status")
                    if planned.name not in status["machines"]:
                        raise
                    # else it was made by who has used the environment before
                station.namespace = await namespace_of(self._reaches.fabric, planned.name)
                station.addresses = tuple(map(str, link.addresses))
                station.furnish(self._knows.plan.hosts_file([network]), resolv_conf(planned))
            station.tell_hosts(self._knows.plan.hosts_file([network]))
        return station

    async def place(self, network: str) -> str:
        """What a network's station is called in the fabric, see :meth:`station`."""
        await self.station(network)
        return f"station:{network}"

    def tell_hosts(self, hosts: Callable[[str], str]) -> None:
        """Have each know who there is; the function gives a network's ``/etc/hosts``."""
        for name, station in self.made.items():
            station.tell_hosts(hosts(name))

    def close(self) -> None:
        """Let go of all."""
        for station in self.made.values():
            station.close()


async def namespace_of(fabric: Channel, name: str) -> int:
    """A descriptor of the network namespace of a station.

    :raises FabricError: the fabric has none of this name.
    """
    _, fds = await fabric.request("socket", machine=name)
    with socket.socket(fileno=fds[0]) as sock:
        return namespace_behind(sock)


def namespace_behind(sock: socket.socket) -> int:
    """A descriptor of the network namespace in which a socket was made."""
    namespace: int = fcntl.ioctl(sock, _SIOCGSKNS)
    os.set_inheritable(namespace, False)
    return namespace


class _Whereabouts:
    """Where the calling thread is: namespaces, root and working folder."""

    def __init__(self) -> None:
        self._fds: list[int] = []
        try:
            self._network = self._open("/proc/thread-self/ns/net", os.O_RDONLY)
            self._mounts = self._open("/proc/thread-self/ns/mnt", os.O_RDONLY)
            self._root = self._open("/", os.O_PATH)
            self.folder = self._open(".", os.O_PATH)
        except BaseException:
            self.close()
            raise
        self._path = _working_folder()

    def _open(self, path: str, flags: int) -> int:
        fd = os.open(path, flags | os.O_CLOEXEC)
        self._fds.append(fd)
        return fd

    def go_back(self) -> None:
        """Have the calling thread be there again; where it has changed its folder, it keeps it."""
        path = _working_folder()
        syscalls.setns(self._network, syscalls.CLONE_NEWNET)
        # threads that were started inside have their root and folder in common with this one:
        # the kernel lets nobody change mounts below others' feet
        syscalls.unshare(syscalls.CLONE_FS)
        syscalls.setns(self._mounts, syscalls.CLONE_NEWNS)
        os.fchdir(self._root)
        if not os.path.samestat(Path("/").stat(), os.fstat(self._root)):
            os.chroot(".")
        os.fchdir(self.folder)
        if path is not None and path != self._path:
            with contextlib.suppress(OSError):
                os.chdir(path)

    def close(self) -> None:
        for fd in self._fds:
            os.close(fd)
        self._fds.clear()


def _working_folder() -> str | None:
    try:
        return os.getcwd()  # noqa: PTH109  it may be gone
    except FileNotFoundError:
        return None


class _Stack(threading.local):
    """The blocks that a thread is in, the innermost last."""

    def __init__(self) -> None:
        self.blocks: list[Inside] = []


_stack = _Stack()


class Inside:
    """While the block runs, this thread, and what it starts, is in a network of a layout.

    A socket belongs to the network in which it was made, and stays there after the block; so
    does a thread. Blocks may be nested; the innermost counts.
    """

    def __init__(self, stations: Stations, network: str) -> None:
        self._stations = stations
        self._network = network
        self._before: _Whereabouts | None = None
        self._ended = False

    def __enter__(self) -> Station:
        """Enter; gives the station, whose ``addresses`` others see.

        :raises HostError: not root.
        :raises LookupError: there is no such network.
        :raises RuntimeError: an event loop runs in this thread.
        """
        self._refuse()
        portal = self._stations.portal
        station = portal.call(self._stations.station, self._network)
        before = _Whereabouts()
        try:
            _enter(station)
        except BaseException as error:
            with contextlib.suppress(OSError):
                before.go_back()
            before.close()
            if isinstance(error, PermissionError):
                raise HostError([_needs_root(str(error))]) from error
            raise
        if threading.current_thread() is threading.main_thread():
            # from here on, its working folder is its own: others do not follow it by themselves
            portal.follow(threading.get_ident())
        self._before = before
        self._ended = False
        _stack.blocks.append(self)
        return station

    def _refuse(self) -> None:
        if self._before is not None:
            raise RuntimeError(f"inside({self._network!r}): this block runs already; make another")
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            pass
        else:
            raise RuntimeError(
                f"inside({self._network!r}) is for blocking code, and an event loop runs in this "
                "thread, for whose other tasks it would hold, too; try: a function with the "
                "block in it, and await asyncio.to_thread(function); or machine.aio.connect()"
            )
        if not privilege.is_privileged():
            raise HostError([_needs_root("this process may not enter network namespaces")])

    def __exit__(self, *exc: object) -> None:
        blocks = _stack.blocks
        if self not in blocks:
            raise RuntimeError(f"inside({self._network!r}) was entered in another thread")
        self._ended = True
        # fixtures may end in any order: an outer block ends with those within
        while blocks and blocks[-1]._ended:
            blocks.pop()._leave()

    def _leave(self) -> None:
        before, self._before = self._before, None
        if before is not None:
            try:
                before.go_back()
            finally:
                before.close()


def _enter(station: Station) -> None:
    syscalls.unshare(syscalls.CLONE_NEWNS)
    syscalls.mount("none", "/", None, syscalls.MS_REC | syscalls.MS_PRIVATE)
    for source, target in station.mounts.items():
        syscalls.mount(source, target, None, syscalls.MS_BIND)
    syscalls.setns(station.namespace, syscalls.CLONE_NEWNET)


def _needs_root(seen: str) -> Problem:
    return Problem(
        who="inside()",
        what=f"it needs root ({seen})",
        remedy="machine.connect() or machine.forward(), which do not",
    )
