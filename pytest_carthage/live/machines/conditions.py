"""Whether a condition holds for a live machine, may come to hold, or cannot any more."""

from __future__ import annotations

import asyncio
import errno
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_carthage.channels.agent import execute
from pytest_carthage.channels.log import Search
from pytest_carthage.errors import CarthageError, FabricError
from pytest_carthage.live.machines import units
from pytest_carthage.live.machines.circumstances import CircumstanceOperations
from pytest_carthage.live.machines.logs import LogOperations
from pytest_carthage.live.machines.screens import ScreenOperations
from pytest_carthage.provider import Ends, Logs
from pytest_carthage.screens import recognition

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_carthage.model.machine import Condition

__all__ = ["ConditionOperations", "Look"]

#: what must be brought about by something that runs in the machine
_OF_PROCESSES = ("port", "file", "log")
#: lines of a screen, its last ones, that an error shows
_SCREEN_LINES = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What a look at a condition has shown."""

    held: bool = False
    #: what was there in its place
    last: str = ""
    #: whether it took longer than it may
    is_cut_off: bool = False
    #: why it cannot come to hold; empty: it may
    hopeless: str = ""


class ConditionOperations(LogOperations, CircumstanceOperations, ScreenOperations):
    """Looking at conditions."""

    def _search(self, condition: Condition) -> Search | None:
        """What finds a text in its log, reading no more than is new at each look."""
        if condition.kind == "log" and not isinstance(self._means, Logs):
            return Search(self._log, condition.value)
        return None

    async def _look(self, condition: Condition, limit_s: float, search: Search | None) -> Look:
        """Look once, for no longer than that."""
        try:
            async with asyncio.timeout(limit_s):
                look = await self._look_at(condition, search)
                if look.held or look.hopeless:
                    return look
                return await self._with_hope(condition, look)
        except TimeoutError:
            return Look(last=f"it did not end in {limit_s:.3g} s", is_cut_off=True)

    async def _with_hope(self, condition: Condition, look: Look) -> Look:
        """The same, where the machine itself shows that it will never hold, with the reason."""
        if condition.kind in ("asked", "rebooted", "exited"):
            return look
        if self._stopped or (self._end is not None and self._end.how != "reboot"):
            is_back = self._end is not None and self._end.again_s is not None
            if not is_back and self.out_of_order is None:
                self._untold = None
                return Look(hopeless=str(self._end or "it is stopped"))
        end = self._main_end
        if condition.kind not in _OF_PROCESSES or end is None or end.again_s is not None:
            return look
        if end.status and await self._is_empty():
            return Look(hopeless=f"{end}, and nothing else runs in it")
        return Look(last=f"{look.last}; {end}")

    async def _is_empty(self) -> bool:
        """Whether nothing runs in it but what answers for it."""
        if not self.can("observe"):
            return False
        reply, _ = await self.channel.request("observe")
        return all(row["pid"] == 1 for row in reply["processes"])

    async def _look_at(self, condition: Condition, search: Search | None) -> Look:
        value = condition.value
        try:
            match condition.kind:
                case "port":
                    return await self._look_at_ports(int(value))
                case "rebooted":
                    return self._look_at_reboots()
                case "exited":
                    return self._look_at_end(value)
                case "asked":
                    assert condition.ask is not None
                    missing = await condition.ask(self)
                    return Look(held=not missing, last=missing)
                case "file":
                    await self.channel.request("stat", path=value)
                    return Look(held=True)
                case "log":
                    if search is None:
                        return Look(held=value in await self.logs(), last="not in its log")
                    held = await asyncio.to_thread(search.is_there)
                    return Look(held=held, last="not in its log")
                case "screen":
                    return await self._look_at_screen(value)
                case "unit":
                    return await self._look_at_unit(value)
                case "command":
                    return await self._look_at_command(["/bin/sh", "-c", value], condition.user)
        except (CarthageError, OSError) as error:
            return Look(last=str(error) or type(error).__name__)

    async def _look_at_ports(self, port: int) -> Look:
        reply, _ = await self.channel.request("listening")
        ports = sorted({row["port"] for row in reply["listening"] if row["protocol"][:3] == "tcp"})
        return Look(held=port in ports, last=f"listening on {ports or 'nothing'}")

    async def _look_at_screen(self, wanted: str) -> Look:
        text = await self.screen_text()
        lines = [line for line in text.splitlines() if line.strip()][-_SCREEN_LINES:]
        last = f"the screen ends with {' | '.join(lines)!r}" if lines else "no text on the screen"
        return Look(held=recognition.shows(text, wanted), last=last)

    def _look_at_reboots(self) -> Look:
        if self._reboots == self._reboots_seen:
            return Look(last=str(self._end) if self._end is not None else "it is up")
        self._reboots_seen = self._reboots
        return Look(held=True)

    def _look_at_end(self, status: str) -> Look:
        if self._main_end is None:
            tells = isinstance(self._means, Ends) and self.can("power")
            return Look(last="it runs" if tells else "nobody tells on its target")
        last = self._main_end
        held = status in ("", str(last.status))
        if held and last.again_s is not None:
            self._main_end = None
        return Look(held=held, last=str(last))

    async def _look_at_command(self, argv: Sequence[str], user: str | None) -> Look:
        status, text = await self._ask_program(argv, user)
        return Look(held=status == 0, last=f"status {status}: {text or 'no output'}")

    async def _look_at_unit(self, name: str) -> Look:
        if set("*?[") & set(name):  # a pattern, of which any will do
            return await self._look_at_command(["systemctl", "is-active", name], None)
        try:
            status, text = await self._ask_program([*units.SHOW, name])
        except FabricError as error:
            if error.errno != errno.ENOENT:
                raise
            return Look(hopeless=f"no unit {name}: it has no systemctl")
        state = units.State.of(text)
        if status or state is None:
            last = f"status {status}: {text or 'no output'}"
            boots = self.planned.init is not None or units.NOT_BOOTED not in text
            return Look(last=last) if boots else Look(hopeless=last)
        if state.is_active:
            return Look(held=True)
        if state.may_be_over and (await self._ask_program(units.STATE))[1] not in units.STARTED:
            return Look(last=f"{state}, while systemd starts")
        if state.load == "not-found":
            names = [(await self._ask_program(argv))[1] for argv in units.LISTS]
            return Look(hopeless=units.missing(name, "\n".join(names)))
        return Look(last=str(state), hopeless=state.hopeless(name, self.name))

    async def _ask_program(self, argv: Sequence[str], user: str | None = None) -> tuple[int, str]:
        """Exit status of a program, and its errors, or else what it printed."""
        status, out, err = await execute(
            self.channel, argv, user=user, cwd=None, env={}, input=None, timeout_s=None
        )
        return status, (err or out).decode(errors="replace").strip()
