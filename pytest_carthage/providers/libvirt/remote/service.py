"""The libvirt of another host, as one environment uses it: whatever is not ours is not touched."""

from __future__ import annotations

import asyncio
import os
import platform
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar
from xml.etree import ElementTree

from pytest_carthage import clock
from pytest_carthage.channels.consoles import Consoles
from pytest_carthage.errors import CarthageError, FabricError
from pytest_carthage.providers.libvirt.binding import Connection, Refused
from pytest_carthage.providers.libvirt.domain import Hardware
from pytest_carthage.providers.libvirt.host import Acceleration
from pytest_carthage.providers.libvirt.remote.tunnel import Tunnel
from pytest_carthage.providers.libvirt.remote.uri import LibvirtUri
from pytest_carthage.providers.libvirt.remote.volumes import choose_pool

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from pathlib import Path

    from pytest_carthage.handles.channel import Channel

__all__ = ["RemoteService"]

T = TypeVar("T")

_OPEN_S = 30.0
_POLL_S = 0.02
#: how long a way that is cut may take to be known to be
_END_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Host:
    """What another host has."""

    hardware: Hardware
    #: memory that can be had without swapping, as far as libvirt tells
    available_mib: int


class RemoteService:
    """A libvirt, by its URI.

    :param folder: where the way to it may have a folder, which nobody else can enter.
    :param fabric: of the environment; None: who asks has nothing to do with it.
    :param environment: folder of the environment.
    """

    def __init__(
        self,
        uri: str,
        folder: Path,
        *,
        fabric: Channel | None = None,
        environment: Path | None = None,
    ) -> None:
        self.uri = uri
        self._tunnel = Tunnel(LibvirtUri.of(uri), folder)
        #: serial consoles of its machines
        self.consoles = (
            None if fabric is None or environment is None else Consoles(fabric, environment)
        )
        self._connection: Connection | None = None
        self._opening = asyncio.Lock()
        #: of the folder: the path of a socket may be too long for the kernel
        self._fd = -1

    @property
    def connection(self) -> Connection:
        """The connection to it.

        :raises FabricError: it was not opened.
        """
        if self._connection is None:
            raise FabricError(f"libvirt {self.uri}: it was not opened")
        return self._connection

    async def open(self) -> None:
        """Open a way to it, where there is none.

        :raises FabricError: it is not reached, with the words of ssh or of libvirt.
        """
        async with self._opening:
            if self._connection is not None and not self._tunnel.has_ended:
                return
            # its end is tied to this thread, which is the event loop's
            self._tunnel.start()
            deadline = clock.monotonic_s() + _OPEN_S
            while not self._tunnel.is_open:
                if self._tunnel.has_ended or clock.monotonic_s() > deadline:
                    raise FabricError(
                        f"libvirt {self.uri}: no way to its host: {self._tunnel.why()}; try: "
                        f"virsh --connect '{self.uri}' list"
                    )
                await asyncio.sleep(_POLL_S)  # ssh tells nobody that it is there
            if self._connection is None:
                self._connection = Connection(self._address())
        try:
            await self._watched(
                self._connection.call(lambda libvirt, connection: connection.getLibVersion())
            )
        except Refused as refused:
            said = f" ({self._tunnel.why()})" if LibvirtUri.of(self.uri).ssh else ""
            raise FabricError(
                f"libvirt {self.uri}: it does not answer: {refused}{said}; try: "
                f"virsh --connect '{self.uri}' list, or ?socket=/run/libvirt/virtqemud-sock in it"
            ) from refused

    async def _watched(self, call: Coroutine[Any, Any, T]) -> T:
        """Wait for a call, and cut the way to a libvirt that lets nobody in."""

        async def cut() -> None:
            await asyncio.to_thread(self._tunnel.close)

        return await self.connection.watched(call, cut)

    def _address(self) -> str:
        """URI of it for this process."""
        uri = self._tunnel.libvirt()
        if self._fd < 0 and LibvirtUri.of(self.uri).ssh:
            self._fd = os.open(self._tunnel.folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        return uri.replace(str(self._tunnel.folder), f"/proc/self/fd/{self._fd}")

    async def call(self, function: Callable[[Any, Any], T]) -> T:
        """Call ``function(libvirt, connection)`` in a thread, with the module and a virConnect.

        A way to it that was cut is opened again.

        :raises Refused: with libvirt's own words.
        :raises FabricError: it is not reached any more.
        """
        deadline = clock.monotonic_s() + _END_S
        while True:
            await self.open()
            try:
                return await self._watched(self.connection.call(function))
            except Refused as refused:
                if not refused.is_gone or clock.monotonic_s() > deadline:
                    raise
            await asyncio.sleep(_POLL_S)

    async def look(self, pool: str | None) -> tuple[_Host, str]:
        """What the host has for machines like this host, and the pool for their disks.

        :raises CarthageError: it has not what is needed.
        """

        def steps(libvirt: Any, connection: Any) -> tuple[_Host, str]:
            return _look(libvirt, connection), choose_pool(libvirt, connection, pool)

        try:
            return await self.call(steps)
        except Refused as refused:
            raise FabricError(f"libvirt {self.uri}: {refused}") from refused
        except FabricError:
            raise
        except CarthageError as error:
            raise FabricError(f"libvirt {self.uri}: {error}") from error

    async def close(self) -> None:
        """Let go of it."""
        if self._connection is not None:
            await self._watched(self._connection.close())
            self._connection = None
        await asyncio.to_thread(self._tunnel.close)
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _look(libvirt: Any, connection: Any) -> _Host:
    """See :meth:`RemoteService.look`.

    :raises CarthageError: it runs no machines like this host.
    """
    machine = platform.machine()
    if connection.getType() != "QEMU":
        raise CarthageError(f"it runs machines by {connection.getType()}, and not by QEMU")
    capabilities = ElementTree.fromstring(connection.getCapabilities())
    there = capabilities.findtext("host/cpu/arch", "")
    if there != machine:
        raise CarthageError(
            f"its host is {there}, and images are made for {machine} here; try: a host like this"
        )
    acceleration = Acceleration(kind="qemu", why="its processors or its kernel have no KVM")
    emulator = ""
    for kind in ("qemu", "kvm"):
        try:
            text = connection.getDomainCapabilities(None, machine, None, kind, 0)
        except libvirt.libvirtError:
            continue
        emulator = ElementTree.fromstring(text).findtext("path", "")
        if kind == "kvm" and _has_virtualisation(libvirt, connection, machine, capabilities):
            acceleration = Acceleration(kind="kvm")
    if not emulator:
        raise CarthageError(
            f"its host has no QEMU for {machine}; try: apt-get install qemu-system, there"
        )
    memory = connection.getMemoryStats(libvirt.VIR_NODE_MEMORY_STATS_ALL_CELLS, 0)
    available = sum(memory.get(name, 0) for name in ("free", "buffers", "cached")) >> 10
    return _Host(
        hardware=Hardware(acceleration=acceleration, emulator=emulator), available_mib=available
    )


def _has_virtualisation(
    libvirt: Any, connection: Any, machine: str, capabilities: ElementTree.Element
) -> bool:
    """Whether a KVM there can be trusted, see :func:`.host.acceleration`."""
    if machine != "x86_64":
        return True
    cpu = capabilities.find("host/cpu")
    if cpu is None:
        return False
    try:
        whole = connection.baselineCPU(
            [ElementTree.tostring(cpu, encoding="unicode")],
            libvirt.VIR_CONNECT_BASELINE_CPU_EXPAND_FEATURES,
        )
    except libvirt.libvirtError:
        return False
    features = ElementTree.fromstring(whole).iterfind("feature")
    return bool({"vmx", "svm"} & {feature.get("name") for feature in features})
