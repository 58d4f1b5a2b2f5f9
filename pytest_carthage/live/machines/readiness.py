"""Waiting for a live machine, and looking at it."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

from pytest_carthage import clock
from pytest_carthage.bridge import operation
from pytest_carthage.channels.agent import Interrupted, execute
from pytest_carthage.errors import CarthageError, FabricError, TimeLimitError
from pytest_carthage.live.machines.core import MachineCore
from pytest_carthage.live.machines.expectation import wait_for_expected
from pytest_carthage.planning.targets import ASKS
from pytest_carthage.provider import Ends, Logs

if TYPE_CHECKING:
    from pytest_carthage.model.machine import Condition

__all__ = ["ReadinessOperations"]

#: the longest that a machine which is about to end may take to tell of its settings
_SETTINGS_S = 2.0
#: what is seen of a command that takes longer than there is time
_CUT_OFF = "it did not end"


class ReadinessOperations(MachineCore):
    """When a machine is ready, and what it looks like."""

    @operation
    async def wait_for(self, condition: Condition, *, timeout_s: float = 60.0) -> None:
        """Wait until a condition holds.

        :raises TimeLimitError: it did not hold in time, with what was seen last.
        """
        self.require(ASKS[condition.kind], f"wait_for({condition.kind}({condition.value!r}))")
        deadline = clock.monotonic_s() + timeout_s
        pause_s = 0.005
        before = ""
        while True:
            held, last = await self._holds(condition, deadline - clock.monotonic_s())
            if held:
                return
            if last == _CUT_OFF and before:  # there was no time left for it
                last = f"{before}; then {_CUT_OFF}"
            else:
                before = last
            if clock.monotonic_s() + pause_s > deadline:
                raise TimeLimitError(
                    f"{self._who}: no {condition} after {timeout_s:.3g} s (last: {last}); "
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
            case "rebooted":
                if self._reboots == self._reboots_seen:
                    return False, str(self._end) if self._end is not None else "it is up"
                self._reboots_seen = self._reboots
                return True, ""
            case "exited":
                if self._main_end is None:
                    tells = isinstance(self._means, Ends)
                    return False, "it runs" if tells else "nobody tells on its target"
                last = self._main_end
                held = value in ("", str(last.status))
                if held and last.again_s is not None:
                    self._main_end = None
                return held, str(last)
            case "asked":
                assert condition.ask is not None
                try:
                    async with asyncio.timeout(max(left_s, 0.1)):
                        missing = await condition.ask(self)
                except TimeoutError:
                    return False, _CUT_OFF
                except (CarthageError, OSError) as error:
                    return False, str(error)
                return not missing, missing
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
            return False, _CUT_OFF
        except FabricError as error:
            return False, str(error)
        text = (err or out).decode(errors="replace").strip()
        return status == 0, f"status {status}: {text or 'no output'}"

    @operation
    async def wait_until_ready(self) -> None:
        """Wait for what the machine sets by itself, and the conditions that it was declared with.

        :raises TimeLimitError: an address was not there in time, or a condition did not hold.
        """
        deadline = clock.monotonic_s() + self.planned.ready_timeout_s
        await wait_for_expected(self, deadline)
        for condition in self.planned.wait_for:
            await self.wait_for(condition, timeout_s=max(deadline - clock.monotonic_s(), 0.1))

    @operation
    async def logs(self) -> str:
        """What the machine's main process and its init have printed.

        :raises UnsupportedError: nobody keeps that on its target.
        """
        self.require("logs", "logs()")
        if isinstance(self._means, Logs):
            return await self._means.logs()
        with contextlib.suppress(FileNotFoundError):
            return self._log.read_text(errors="replace")
        return ""

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
