"""A machine that is a container: switched, and followed in what it does by itself."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_carthage import clock
from pytest_carthage.errors import FabricError
from pytest_carthage.fabric.restarting import Restarting
from pytest_carthage.provider import Channel, Context, End, Identity
from pytest_carthage.providers.podman import running
from pytest_carthage.providers.podman.printed import printed
from pytest_carthage.providers.podman.service import Service

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from pytest_carthage.planning.plan import PlannedMachine

__all__ = ["PodmanMachine"]

#: what podman may take beyond the time that a machine has to stop
_STOP_S = 30.0
#: exit status of what was killed, as podman tells it
_KILLED = 128 + signal.SIGKILL


@dataclass(slots=True)
class PodmanMachine:
    """A container, with the agent that has joined it."""

    identity: Identity
    channel: Channel
    _planned: PlannedMachine
    _context: Context
    _service: Service
    _log: Path
    _restarting: Restarting
    #: when its main process was started, as clock.monotonic_s() tells
    _began: float
    #: one at a time starts and stops it
    _switching: asyncio.Lock = field(default_factory=asyncio.Lock)
    #: how its last life ended, while it is to be started again
    _end: End | None = None
    #: an end that nobody has been told of yet
    _untold: End | None = None
    #: somebody has switched it, while it was to be started again
    _is_switched: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        if count := self._restarting.count:  # before anybody listened
            self._untold = End(how="again", status=0, at_s=clock.unix_s(), last="", restarts=count)

    async def start(self) -> None:
        """Start the container again, with its files and links, and enter it.

        :raises CreationError: it does not start, with the last lines of its log.
        """
        async with self._switched():
            self._restarting = Restarting(self._planned.restart)
            await self._context.fabric.request("plug", machine=self._planned.name, up=True)
            self.channel, self._began = await running.begin(
                self._planned, self._context, self._service, self._log, None, self._restarting
            )

    async def stop(self, *, timeout_s: float = 10.0) -> None:
        """Ask its first process to end, and end all by force after the time."""
        name, fabric = self._planned.name, self._context.fabric
        async with self._switched():
            # first: systemd would wait for a process that is not its child, and hear nothing
            await fabric.request("stop", machine=name)
            await self._service.call(
                lambda podman: podman.send(
                    "post",
                    f"/containers/{name}/stop",
                    timeout=max(0, round(timeout_s)),
                    limit_s=timeout_s + _STOP_S,
                )
            )
            await fabric.request("plug", machine=name, up=False)

    @contextlib.asynccontextmanager
    async def _switched(self) -> AsyncIterator[None]:
        """Switch it, which is not to be started again by itself any more."""
        self._is_switched.set()
        async with self._switching:
            self._is_switched.clear()
            try:
                yield
            finally:
                self._end = self._untold = None

    async def ended(self) -> End:
        """Return when its main process has ended, or its agent.

        :raises FabricError: it was removed, or its fabric is gone.
        """
        if self._untold is None:
            name = self._planned.name
            reply, _ = await self._context.fabric.request("ended", machine=name)
            if reply["how"] == "agent":
                names = ("how", "status", "at_s", "last")
                return End(**{name: reply[name] for name in names})
            status = await running.status_of_ended(name, self._service)
            if status is None:
                raise FabricError(
                    f"{running.subject(self._planned, self._context)}: its container is gone"
                )
            self._untold = await self._take_in_end(status, reply["at_s"], is_oom=reply["is_oom"])
        end, self._untold = self._untold, None
        return end

    async def _take_in_end(self, status: int, at_s: float, *, is_oom: bool = False) -> End:
        """What comes of an end that nobody had asked for.

        :param is_oom: whether something in it was killed for want of memory just now.
        """
        again_s = self._restarting.after(status, clock.monotonic_s() - self._began)
        is_systemd = self._planned.init == "systemd"
        if again_s is None or is_systemd:
            again_s = None
            await self._context.fabric.request("plug", machine=self._planned.name, up=False)
        lines = running.log_of(self._log).last_lines(1)
        end = End(
            how="exit" if is_systemd else "over",
            status=status,
            at_s=at_s,
            last=lines[0].strip() if lines else "",
            again_s=again_s,
            is_oom=is_oom and status == _KILLED,
        )
        self._end = end if again_s is not None else None
        return end

    async def back(self) -> None:
        """Return when it has an agent again, or when its main process was started again.

        :raises FabricError: somebody has stopped or started it meanwhile; or it is not there.
        """
        end = self._end
        if end is None:
            self.channel = await self._context.channel(self._planned.name)
            return
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._is_switched.wait(), end.again_s)
        async with self._switching:
            if self._end is not end:
                raise FabricError(
                    f"{running.subject(self._planned, self._context)}: it was switched"
                )
            self._end = None
            self._restarting.count += 1
            try:
                self.channel = await running.start(
                    self._planned, self._context, self._service, self._log, None
                )
                self._began = clock.monotonic_s()  # what podman takes is no life
            except running.EndedAtOnce as error:
                self._began = clock.monotonic_s()
                self._untold = await self._take_in_end(error.status, clock.unix_s())

    def printed(self, log: bytes) -> bytes:
        """What its first process printed; with systemd, the journal, too."""
        return printed(log)
