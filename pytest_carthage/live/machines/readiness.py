"""Waiting for a live machine, and looking at it."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

from pytest_carthage import clock
from pytest_carthage.bridge import operation
from pytest_carthage.errors import CarthageError, TimeLimitError
from pytest_carthage.live.machines.conditions import ConditionOperations
from pytest_carthage.live.machines.expectation import wait_for_expected
from pytest_carthage.planning.targets import ASKS

if TYPE_CHECKING:
    from pytest_carthage.model.machine import Condition

__all__ = ["ReadinessOperations"]

#: the longest that a machine which is about to end may take to tell of its settings
_SETTINGS_S = 2.0


class ReadinessOperations(ConditionOperations):
    """When a machine is ready, and what it looks like."""

    @operation
    async def wait_for(self, condition: Condition, *, timeout_s: float = 60.0) -> None:
        """Wait until a condition holds.

        It is looked at again and again; one look may take half of the time that is left.

        :raises HostError: it is about a screen, and tesseract is not installed here.
        :raises TimeLimitError: it did not hold in time, with what was seen last; or at once, where
            it cannot hold any more: there is no such unit, or it is masked or has failed; the
            machine is off; its main process has failed, and nothing else runs in it.
        """
        self.require(ASKS[condition.kind], f"wait_for({condition.kind}({condition.value!r}))")
        if condition.kind == "screen":
            self._refuse_to_recognise()
        deadline, begin_s = clock.monotonic_s() + timeout_s, clock.unix_s()
        pause_s = 0.005
        search = self._search(condition)
        before = ""
        while True:
            left_s = max(deadline - clock.monotonic_s(), 0.1)
            look = await self._look(condition, max(left_s / 2, min(left_s, 1.0)), search)
            if look.held:
                return
            if look.hopeless:
                raise TimeLimitError(
                    f"{self._who}: {look.hopeless}; waited for {condition}"
                    f"{await self._meanwhile(begin_s)}; {await self._whence()}"
                )
            last = f"{before}; then {look.last}" if look.is_cut_off and before else look.last
            if not look.is_cut_off:
                before = last
            if clock.monotonic_s() + pause_s > deadline:
                raise TimeLimitError(
                    f"{self._who}: no {condition} after {timeout_s:.3g} s (last: {last})"
                    f"{await self._meanwhile(begin_s)}; {await self._whence()}"
                )
            # nothing tells of a port or a file in another machine: only polling is possible
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 1.5, 0.2)

    async def _whence(self) -> str:
        """Where more is to be seen, and the end of that."""
        words = await self._last_words()
        return f"log: {self._log.path}; try: pytest-carthage logs {self.name}{words}"

    @operation
    async def wait_until_ready(self) -> None:
        """Wait for what the machine sets by itself, and the conditions that it was declared with.

        :raises TimeLimitError: an address was not there in time, or a condition did not hold.
        """
        deadline = clock.monotonic_s() + self.ready_limit_s
        await wait_for_expected(self, deadline)
        for condition in self.planned.wait_for:
            await self.wait_for(condition, timeout_s=max(deadline - clock.monotonic_s(), 0.1))

    @operation
    async def observe(self) -> dict[str, Any]:
        """What the machine looks like now: processes, listening, addresses, routes (lists)."""
        self.require("observe", "observe()")
        reply, _ = await self.channel.request("observe")
        return {key: value for key, value in reply.items() if key not in ("id", "ok", "fds")}

    @operation
    async def inert_settings(self) -> dict[str, str]:
        """Settings of the host's kernel that were set here without effect, since its last start.

        Name, as sysctl(8) has it, or path, to value; of modules the command (``modprobe dummy``) to
        nothing.
        """
        operations = getattr(self.channel, "operations", None)
        if operations is None or "settings" not in operations:
            return {}
        reply, _ = await self.channel.request("settings")
        return {str(name): str(value) for name, value in reply["changed"].items()}

    async def tell_settings(self) -> None:
        """Report what was set without effect, before it is forgotten."""
        if self.planned.traits.root != "image" or not self.is_up():
            return
        with contextlib.suppress(CarthageError, TimeoutError):
            async with asyncio.timeout(_SETTINGS_S):
                if changed := await self.inert_settings():
                    pairs = ", ".join(
                        name if " " in name else f"{name}={value}"
                        for name, value in changed.items()
                    )
                    self.note(f"set here without effect: {pairs}")
