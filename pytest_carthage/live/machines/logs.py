"""What a live machine has printed."""

from __future__ import annotations

import asyncio
import contextlib

from pytest_carthage.bridge import operation
from pytest_carthage.errors import CarthageError
from pytest_carthage.handles.kept import shortened
from pytest_carthage.handles.printed import Printed
from pytest_carthage.live.machines.core import MachineCore
from pytest_carthage.provider import Logs

__all__ = ["LogOperations"]

#: bytes of the beginning and of the end of a log that a record has
_HEAD, _TAIL = 256 << 10, 1 << 20


class LogOperations(MachineCore):
    """The log of a machine, whole and in parts."""

    @operation
    async def logs(self) -> str:
        """What the machine's main process and its init have printed, all of it.

        :raises UnsupportedError: nobody keeps that on its target.
        """
        self.require("logs", "logs()")
        if isinstance(self._means, Logs):
            return await self._means.logs()
        return await asyncio.to_thread(self._log.text)

    async def printed(self, since: int = 0) -> Printed:
        """What it printed from a byte of its log on; of more than 1.25 MiB the beginning and the
        end.

        :raises UnsupportedError: nobody keeps that on its target.
        """
        self.require("logs", "logs()")
        if isinstance(self._means, Logs):
            text = await self._means.logs()
            return Printed(text=shortened(text[since:], head=_HEAD, tail=_TAIL), before=since)
        return await asyncio.to_thread(self._log.part, since, head=_HEAD, tail=_TAIL)

    async def _last_words(self, lines: int = 5) -> str:
        """Why it stands, if it does, and the end of its log, which may soon be gone."""
        stands = f"; {self.stalled}" if self.stalled else ""
        with contextlib.suppress(CarthageError, OSError):
            if isinstance(self._means, Logs):
                kept = (await self.logs()).rstrip().splitlines()[-lines:]
            else:
                kept = self._log.last_lines(lines)
            if kept:
                return stands + "; it printed last:\n" + "\n".join(f"  {line}" for line in kept)
        return stands
