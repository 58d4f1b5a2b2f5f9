"""A machine that stands since what it writes has no room on this host, until there is some.

QEMU stops a machine whose disk cannot grow, so that it loses nothing, and leaves it so.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from typing import TYPE_CHECKING, Any

from pytest_carthage import clock
from pytest_carthage.providers.libvirt.binding import Refused

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

__all__ = ["Stall"]

#: what must be free before it is worth a try
_ROOM_MIB = 16
_LOOK_S = 1.0
#: virDomainPausedReason
_IO_ERROR = 5


class Stall:
    """Has a machine go on that stands for want of room.

    :param folder: of its disks.
    :param call: calls ``function(libvirt, domain)`` in a thread.
    :param note: tells a person.
    """

    def __init__(
        self,
        folder: Path,
        call: Callable[[Callable[[Any, Any], None]], Awaitable[None]],
        note: Callable[[str], None],
    ) -> None:
        self._folder, self._call, self._note = folder, call, note
        #: why it stands; empty: it does not
        self.why = ""
        self._waiting: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """It stands."""
        if self._waiting is None or self._waiting.done():
            self._waiting = asyncio.create_task(self._wait())

    async def _wait(self) -> None:
        try:
            since = time.strftime("%H:%M:%S", time.localtime(clock.unix_s()))
            self.why = (
                f"it stands since {since}: what it writes to its disk has no room in "
                f"{self._folder} of this host, of which {_free_mib(self._folder)} MiB are "
                "free; it goes on when there is some"
            )
            self._note(self.why)
            while _free_mib(self._folder) < _ROOM_MIB:  # noqa: ASYNC110  nobody tells of room
                await asyncio.sleep(_LOOK_S)
            with contextlib.suppress(Refused):
                await self._call(_resume)
            self._note("it goes on: there is room again")
        except FileNotFoundError:  # it is gone, and so is its folder
            pass
        finally:
            self.why = ""


def _free_mib(folder: Path) -> int:
    there = os.statvfs(folder)
    return there.f_bavail * there.f_frsize >> 20


def _resume(libvirt: Any, domain: Any) -> None:
    state, reason = domain.state()
    if state == libvirt.VIR_DOMAIN_PAUSED and reason == _IO_ERROR:  # else somebody has frozen it
        domain.resume()
