"""The boot that a virtual machine is in, and the wait for who answers in it."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

from pytest_carthage import clock
from pytest_carthage.channels.agent import Interrupted, execute
from pytest_carthage.errors import FabricError
from pytest_carthage.images.seeds.units import AGENT_ENDED
from pytest_carthage.placing import systemd
from pytest_carthage.work.booted import STARTED, state_of_systemd

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from pytest_carthage.provider import Channel
    from pytest_carthage.providers.libvirt.answering import Answering
    from pytest_carthage.providers.libvirt.lives import Life

__all__ = ["Boot"]

_POLL_S = 0.1
#: between two looks at the console
_LOOK_S = 0.5
#: what one answer of an agent that is there may take
_ANSWER_S = 30.0
_BOOT_ID = ("cat", "/proc/sys/kernel/random/boot_id")


class Boot:
    """The boot that one machine is in; another one after each start.

    :param limit_s: what it may take to be ready.
    :param has_systemd: it is ready when systemd has started all that it should.
    """

    def __init__(
        self,
        *,
        answering: Answering,
        life: Life,
        limit_s: float,
        has_systemd: bool,
        note: Callable[[str], None],
    ) -> None:
        self._answering = answering
        self._life = life
        self._limit_s = limit_s
        self._has_systemd = has_systemd
        self._note = note
        #: what its kernel calls it; "": it has not been asked
        self.id = ""

    async def until_ready(self) -> None:
        """Wait until its agent answers, from a boot that is another one than the last.

        :raises FabricError: it does not in time, or the machine ends meanwhile.
        """
        await self.unless_it_ends(self._until_it_answers())

    async def unless_it_ends(self, waiting: Coroutine[Any, Any, None]) -> None:
        """Wait for something that needs the machine, and its agent.

        :raises FabricError: the machine ends meanwhile, or its agent cannot run.
        """
        answers = asyncio.ensure_future(waiting)
        ends = asyncio.ensure_future(self._life.off.wait())
        cannot = asyncio.ensure_future(self._until_it_cannot_answer())
        tasks: tuple[asyncio.Future[Any], ...] = (answers, ends, cannot)
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if answers.done():
                return await answers
            if cannot.done():
                raise FabricError(
                    f"its agent cannot run: {cannot.result()}; try: an image with python3, of which"
                    ' python3-minimal is not enough, or on=Vm(way="ssh")'
                )
            raise FabricError("it went off while it started")
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _until_it_cannot_answer(self) -> str:
        """Why nobody will answer, after every way into it."""
        while True:
            why = await self._until_its_agent_ends()
            if not self._answering.fall_back():
                return why
            self._note(f"is asked by {self._answering.kind}: its agent cannot run: {why}")
            await self._answering.appoint()

    async def _until_its_agent_ends(self) -> str:
        """Why the agent does not stay, as its console tells from now on."""
        if self._answering.kind != "agent":
            await asyncio.get_running_loop().create_future()  # what it prints is not ours
        before = self._life.printed().count(AGENT_ENDED)
        while True:
            told = self._life.printed()
            _, _, reason = told.rpartition(f"{AGENT_ENDED}: ")
            if told.count(AGENT_ENDED) > before and "\n" in reason:
                return reason.partition("\n")[0].strip()
            # nobody tells of what is printed
            await asyncio.sleep(_LOOK_S)

    async def _until_it_answers(self) -> None:
        limit_s = self._limit_s
        deadline = clock.monotonic_s() + limit_s
        seen = "it was not there"
        while True:
            try:
                async with asyncio.timeout(max(0, deadline - clock.monotonic_s())):
                    boot_id = await self._ask_id()
                    if boot_id != self.id:
                        break
                    seen = "it has not rebooted yet"
                    # it hangs up when it does
                    await asyncio.sleep(_POLL_S)
            except TimeoutError:
                raise FabricError(
                    f"{self._answering} did not answer in {limit_s:g} s (last: {seen})"
                ) from None
            except (FabricError, Interrupted) as error:
                seen = str(error) or "no answer"
                # whoever answers for it goes on, and takes callers again
                await asyncio.sleep(_POLL_S)
        self.id = boot_id
        self._life.has_booted()
        await self._wait_for_systemd(max(0.1, deadline - clock.monotonic_s()))

    async def _ask_id(self) -> str:
        """What its kernel calls this boot; asked when its agent is there."""
        return await self._id_by(await self._answering.open())

    async def _id_by(self, channel: Channel) -> str:
        await channel.request("ping")
        return (await self.execute(_BOOT_ID, channel=channel)).strip()

    async def _wait_for_systemd(self, limit_s: float) -> None:
        """Wait until systemd has started all that it should; units that failed are not our case."""
        if not self._has_systemd:
            return
        seen = await systemd.booted(self._state_of_systemd(limit_s), self._life.printed)
        if seen not in STARTED:
            raise FabricError(f"systemd did not start in {limit_s:.3g} s (last: {seen})")

    async def _state_of_systemd(self, limit_s: float) -> str:
        """What systemd says when it has started, or last; whoever answers may change meanwhile."""
        deadline = clock.monotonic_s() + limit_s
        while True:
            left_s = max(0.1, deadline - clock.monotonic_s())
            try:
                return await state_of_systemd(left_s, await self._answering.open())
            except FabricError as error:
                if clock.monotonic_s() > deadline:
                    return str(error)
            await asyncio.sleep(_POLL_S)

    async def execute(self, argv: Sequence[str], *, channel: Channel | None = None) -> str:
        """What a command in it prints."""
        way = channel or self._answering.channel
        _, out, _ = await execute(
            way, argv, user=None, cwd=None, env={}, input=None, timeout_s=_ANSWER_S
        )
        return out.decode(errors="replace")

    async def is_another(self) -> bool:
        """Have another channel to who answers; return, when he does, whether it has rebooted."""
        while True:
            with contextlib.suppress(FabricError, Interrupted):
                channel = await self._answering.entered(await self._answering.another())
                boot_id = await self._id_by(channel)
                self._answering.take(channel)
                return bool(self.id) and boot_id != self.id
            await asyncio.sleep(_POLL_S)
