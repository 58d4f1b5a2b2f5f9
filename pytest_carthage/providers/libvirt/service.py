"""The libvirtd of one environment: it lives in the fabric with its machines, and ends with it.

All its files are in the environment's folder. The host's own libvirtd, and whoever uses that, is
not touched.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import TYPE_CHECKING, Any, TypeVar

from pytest_carthage import clock
from pytest_carthage.channels.consoles import Consoles
from pytest_carthage.errors import FabricError, HostError
from pytest_carthage.fabric.host.programs import PATH
from pytest_carthage.fabric.wire import frames
from pytest_carthage.providers.libvirt import apart, host, probes
from pytest_carthage.providers.libvirt.binding import Connection, Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from pathlib import Path

    from pytest_carthage.errors import Problem
    from pytest_carthage.handles.channel import Channel

__all__ = ["Service"]

T = TypeVar("T")

_START_S = 30.0
_POLL_S = 0.01
#: how long one that has ended may take to be known to have; one that has not hangs
_END_S = 10.0
_SOCKET = "libvirt-sock"


class Service:
    """The libvirtd of the environment with this folder, running or not."""

    def __init__(
        self,
        environment: Path,
        fabric: Channel | None = None,
        *,
        note: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.environment = environment
        #: what it has; see :mod:`.apart`
        self.folder = environment / "libvirt"
        #: one folder for each machine
        self.machines = environment / "vm"
        #: where it can be started; None: it can only be asked
        self._fabric = fabric
        #: serial consoles of its machines; None: who asks has nothing to do with the fabric
        self.consoles = None if fabric is None else Consoles(fabric, environment)
        self._connection: Connection | None = None
        self._note = note
        self._reviving = asyncio.Lock()
        #: what starts it again by itself, if it has ended
        self._revival: asyncio.Task[None] | None = None
        self._is_closed = False
        #: whether it was killed since it did not answer
        self._has_hung = False
        #: folders of the store that are held by a process of the fabric
        self._held: set[Path] = set()
        #: of its folder: the path of a socket may be too long for the kernel
        self._fd = -1

    @property
    def was_begun(self) -> bool:
        """Whether somebody has started it, be it another process."""
        return self.folder.exists()

    @property
    def _log(self) -> Path:
        return self.folder / "libvirtd.log"

    async def start(self) -> None:
        """Start it in the fabric; return when it listens.

        :raises HostError: it does not start, with what it printed.
        """
        self.folder.mkdir(mode=0o700)
        self.machines.mkdir(mode=0o700, exist_ok=True)
        apart.write_configuration(self.folder)
        await asyncio.to_thread(probes.recall, self.folder)
        await self._spawn()

    async def _spawn(self) -> None:
        libvirtd = host.find_libvirtd()
        if libvirtd is None or self._fabric is None:
            raise HostError(host.check() or [_failure("cannot be started here", self._log)])
        (self.folder / "ended").unlink(missing_ok=True)
        script = apart.script(self.folder, self.machines, libvirtd)
        await self._fabric.request(
            "spawn",
            name="libvirt",
            argv=["unshare", "--mount", "--propagation", "private", "sh", "-c", script],
            env={"PATH": PATH, "HOME": "/root", "LANG": "C.UTF-8"},
            log=str(self._log),
            cwd=str(self.folder),
        )
        await self._wait_until_it_answers()

    async def _wait_until_it_answers(self) -> None:
        deadline = clock.monotonic_s() + _START_S
        while True:
            try:
                frames.connect(str(self.folder / "run" / _SOCKET)).close()
                # it listens before it knows whether it can do anything
                await self._watched(
                    self.connection.call(lambda libvirt, connection: connection.getLibVersion())
                )
            except OSError as error:
                seen = error.strerror
            except Refused as refused:
                seen = str(refused)
            else:
                return
            if self.has_ended:
                raise HostError([_failure("ended", self._log)])
            if clock.monotonic_s() > deadline:
                raise HostError(
                    [_failure(f"does not answer after {_START_S:g} s ({seen})", self._log)]
                )
            # a socket tells nobody that it begins to listen
            await asyncio.sleep(_POLL_S)

    @property
    def has_ended(self) -> bool:
        """Whether it has ended, with its environment or before."""
        return (self.folder / "ended").exists() or not self.folder.exists()

    # requests

    @property
    def uri(self) -> str:
        """Its URI, for whoever is on this host, see https://libvirt.org/uri.html."""
        return f"qemu+unix:///system?socket={self.folder / 'run' / _SOCKET}"

    @property
    def connection(self) -> Connection:
        """The connection to it, which is opened by the first request.

        :raises Refused: its folder is gone.
        """
        if self._connection is None:
            path = self.folder / "run"
            try:
                self._fd = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            except OSError as error:
                raise Refused(f"no libvirtd in {path}: {error.strerror}", 0, is_gone=True) from None
            socket = f"/proc/self/fd/{self._fd}/{_SOCKET}"
            self._connection = Connection(f"qemu+unix:///system?socket={socket}")
            self._connection.on_cut = self._revive
        return self._connection

    async def call(self, function: Callable[[Any, Any], T]) -> T:
        """Call ``function(libvirt, connection)`` in a thread, with the module and a virConnect.

        A libvirtd that was killed is started again: its machines have gone on without it. One that
        hangs is killed first, as soon as it is known to.

        :raises Refused: with libvirt's own words.
        """
        lost_at: float | None = None
        has_killed = False
        while True:
            try:
                return await self._watched(self.connection.call(function))
            except Refused as refused:
                if not refused.is_gone or self._fabric is None or not self.folder.exists():
                    raise
                lost_at = clock.monotonic_s() if lost_at is None else lost_at
                if clock.monotonic_s() > lost_at + _END_S and not self.has_ended:
                    if has_killed:
                        raise
                    await self._kill_what_hangs()
                    has_killed, lost_at = True, None
            async with self._reviving:
                if self.has_ended and self.folder.exists():
                    how = self._how_it_ended()
                    await self._spawn()
                    self._note(f"its libvirtd {how}, and was started again; log: {self._log}")
            # it may be about to end, which is noted a moment later than it is felt
            await asyncio.sleep(_POLL_S)

    async def _watched(self, call: Coroutine[Any, Any, T]) -> T:
        """Wait for a call, and kill a libvirtd that lets nobody in: nothing else would end that."""
        return await self.connection.watched(call, self._kill_what_hangs)

    async def _kill_what_hangs(self) -> None:
        """Kill a libvirtd that does not answer; who asks next has another one."""
        if self._fabric is None or self.has_ended:
            return
        try:
            pid = int((self.folder / "run" / apart.PID_FILE).read_text())
        except (OSError, ValueError):
            return
        self._has_hung = True
        await self._fabric.request(
            "spawn",
            name="libvirt-end",
            argv=["sh", "-c", 'kill -s KILL "$1"', "sh", str(pid)],
            env={"PATH": PATH},
            log=str(self._log),
        )

    def _revive(self) -> None:
        """Have it be started again, and tell of what nobody has heard, though nobody asks it now.

        Whoever wants something later is told if that fails.
        """

        async def go() -> None:
            with contextlib.suppress(Refused, HostError, FabricError, OSError):
                await self.call(lambda libvirt, connection: connection.getLibVersion())

        if self._fabric is not None and not self._is_closed and self.folder.exists():
            self._revival = asyncio.ensure_future(go())

    def _how_it_ended(self) -> str:
        try:
            status = int((self.folder / "ended").read_text())
        except (OSError, ValueError):
            return "ended"
        if self._has_hung:
            self._has_hung = False
            return "did not answer any more, and was killed"
        if status > 128:  # of a shell
            return f"was ended by signal {status - 128}"
        return f"ended with status {status}"

    async def hold(self, folder: Path) -> None:
        """Have a folder of the store stay as long as the fabric does, whoever ends before."""
        if self._fabric is None or folder in self._held:
            return
        self._held.add(folder)
        await self._fabric.request(
            "spawn",
            name="hold",
            argv=["flock", "--shared", "--no-fork", str(folder), "sleep", "infinity"],
            env={"PATH": PATH},
            log=str(self._log),
        )

    async def close(self) -> None:
        """Let go of it; it goes on as long as its fabric."""
        self._is_closed = True
        if self._revival is not None:
            self._revival.cancel()
            await asyncio.gather(self._revival, return_exceptions=True)
        if self._connection is not None:
            connection = self._connection
            await self._watched(connection.close())
            self._connection = None
            with contextlib.suppress(OSError):
                os.close(self._fd)

    async def keep_probes(self) -> None:
        """Have what it has found out of this host's QEMU be known to those who come later."""
        await asyncio.to_thread(probes.keep, self.folder)


def _failure(what: str, log: Path) -> Problem:
    try:
        lines = log.read_text(errors="replace").strip().splitlines()[-5:]
    except OSError:
        lines = []
    return host.problem(
        f"the environment's libvirtd {what}; it printed: {' / '.join(lines) or 'nothing'}",
        "libvirtd --version, qemu-system-x86_64 --version, which tell what is wrong on this host",
    )
