"""Switching a live machine on and off."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_carthage.bridge import opening, operation
from pytest_carthage.channels.agent import execute
from pytest_carthage.errors import CarthageError, FabricError
from pytest_carthage.images.seeds.units import HOME
from pytest_carthage.live.machines.addresses import AddressOperations
from pytest_carthage.live.machines.readiness import ReadinessOperations
from pytest_carthage.model.machine import rebooted
from pytest_carthage.model.mistakes.place import Place
from pytest_carthage.model.vm import Disk
from pytest_carthage.provider import End, Ends, Freezes, Plugs, Powered, Resets, Signals

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_carthage.live.faults.registry import Fault

__all__ = ["PowerOperations"]

#: asks an init for a reboot, and does not wait for its end; ours has a program for that
_REBOOT = (
    *("/bin/sh", "-c"),
    f"[ -x /{HOME}/reboot ] && exec /{HOME}/reboot; systemctl --no-block reboot || reboot",
)
#: ends that no program in a machine asks for
_COLLAPSES = ("panic", "emulator")
#: what an init may take to say that it has heard
_ASK_S = 60.0


class PowerOperations(AddressOperations, ReadinessOperations):
    """Power, orderly and not."""

    def powered(self) -> Powered:
        """Its switch.

        :raises UnsupportedError: its target has none.
        """
        self.require("power", "stop()")
        assert isinstance(self._means, Powered)
        return self._means

    @property
    def freezer(self) -> Freezes | None:
        """What freezes it in place of the fabric."""
        return self._means if isinstance(self._means, Freezes) else None

    async def signal(self, ports: Sequence[str], *, present: bool) -> None:
        """Have its kernel see a carrier at these ports or none, where it does not by itself."""
        if isinstance(self._means, Signals):
            for port in ports:
                await self._means.signal(port, present=present)

    @operation
    async def start(self) -> None:
        """Start the machine after :meth:`stop`, and wait until it is ready; no-op where it runs."""
        if self.out_of_order == "frozen":
            self._refuse_out_of_order()
        if self._end is not None and self._end.how == "reboot":
            await self.wait_for(rebooted(), timeout_s=self.ready_limit_s)
        if self._stopped or self._end is not None:
            await self.powered().start()
            self._stopped = False
            self._begin_anew()
            self.out_of_order = None
            await self.write_names_again()
            await self.ask_for_addresses()
            await self._arrivals.again(self)
        await self.wait_until_ready()

    @operation
    async def stop(self, *, timeout_s: float = 10.0) -> None:
        """Stop the machine in good order; what is left after the time is killed. Links stay."""
        self._refuse_out_of_order()
        await self.tell_settings()
        await self.give_addresses_back()
        await self.powered().stop(timeout_s=timeout_s)
        self._stopped = True
        self._end = None

    def is_found_off(self) -> None:
        """Take in that it was off when this process took it up."""
        self._stopped = True

    async def follow(self) -> None:
        """Take in what the machine does with its own power, until it is gone for good."""
        means = self._means
        if not isinstance(means, Ends):
            return
        try:
            while True:
                await self._take_in_end(means, await means.ended())
        except FabricError:
            pass  # it was removed, or all is over
        finally:
            self._went_off.set()

    async def _take_in_end(self, means: Ends, end: End) -> None:
        if self._stopped or self.is_leaving or self.surroundings.closed:
            return
        if end.how in ("main", "again", "agent", "deputy"):
            await self._take_in_lesser_end(means, end)
            return
        self._end = end
        if end.how in _COLLAPSES:
            self._untold = end
        if end.how == "over":
            self._main_end = end
            if end.again_s is not None:
                await self._take_in_restart(means, end)
                return
        self._went_off.set()
        self.note(str(end))
        if end.how == "reboot":
            try:
                await means.back()
                self._begin_anew()
                await self.give_addresses_back(tell=False)
                await self.ask_for_addresses()
                await self._arrivals.again(self)
                await self.wait_until_ready()
                self._reboots += 1
                self.note("it is back")
                return
            except CarthageError as error:
                if self.is_up():  # something else is not
                    self._reboots += 1
                    self.note(str(error).splitlines()[0])
                    return
                self._end = replace(end, how="lost", last=str(error))
        self._stopped = True
        with contextlib.suppress(CarthageError):
            await self.give_addresses_back(tell=False)

    async def _take_in_lesser_end(self, means: Ends, end: End) -> None:
        """Something has ended in the machine without which it goes on."""
        if end.how == "again":
            self._restarts = end.restarts
            return
        if end.how == "main":
            self._main_end = end
        else:
            self._way_end = end
            if end.how == "deputy":  # who was served by it is told now
                self._way_gone = self._means.channel
                self._is_answered.clear()
                self._went_off.set()
                self._went_off.clear()
            try:
                with contextlib.suppress(CarthageError):
                    await means.back()
            finally:
                self._is_answered.set()
            self._went_off.set()  # who waits for news is told, and goes on
            self._went_off.clear()
        self.note(str(end))

    async def _take_in_restart(self, means: Ends, end: End) -> None:
        """Its main process has ended, which was all of it, and is started again."""
        self._went_off.set()
        self.note(str(end))
        try:
            await means.back()
        except CarthageError as error:
            if self._end is end:  # else somebody has stopped or started it
                self._end = replace(end, how="lost", again_s=None, last=str(error))
                self._stopped = True
            return
        self._restarts += 1
        self._end = None
        self._went_off.clear()
        with contextlib.suppress(CarthageError):  # if it ends again, that is the next news
            await self.give_addresses_back(tell=False)
            await self.ask_for_addresses()
            await self._arrivals.again(self)

    def _begin_anew(self) -> None:
        """It has been started, and has no past."""
        self._end = self._main_end = self._untold = None
        self._restarts = 0
        self._went_off.clear()

    @operation
    async def restart(self) -> None:
        """Stop and start."""
        await self.stop()
        await self.start()

    @operation
    async def reboot(self) -> None:
        """Have its init reboot it, and wait until it is ready again, in another boot.

        :raises FabricError: it has no init that does.
        :raises TimeLimitError: it has not come back in twice the time that it has to be ready.
        """
        self._refuse_out_of_order()
        self.require("power", "reboot()")
        before = self._reboots
        status, _, err = await execute(
            self.channel, _REBOOT, user=None, cwd=None, env={}, input=None, timeout_s=_ASK_S
        )
        if status or not isinstance(self._means, Ends):
            said = err.decode(errors="replace").strip() or "nobody tells on its target"
            raise FabricError(
                f"{self._who}: its init does not reboot it ({said}); try: restart(), or an image "
                'with systemd, as packages=["systemd-sysv"]'
            )
        self._reboots_seen = before
        await self.wait_for(rebooted(), timeout_s=2 * self.ready_limit_s)

    @operation
    async def reset(self) -> None:
        """Press its reset button: nothing in it is told; wait until it is ready again.

        :raises UnsupportedError: it has none.
        """
        self._refuse_out_of_order()
        self.require("reset", "reset()")
        assert isinstance(self._means, Resets)
        await self._means.reset()
        self._begin_anew()
        await self.give_addresses_back(tell=False)
        await self.ask_for_addresses()
        await self._arrivals.again(self)
        await self.wait_until_ready()

    @operation
    async def plug_disk(self, name: str, *, size_mib: int) -> None:
        """Plug an empty disk into the machine: ``/dev/disk/by-id/virtio-NAME`` in it.

        :param name: its serial number, of at most 20 letters, digits, - and _.
        :raises UnsupportedError: its target cannot.
        :raises FabricError: it has a disk of this name already.
        """
        wrong = [what for what, _ in Disk(name=name, size_mib=size_mib).wrong_values()]
        if wrong:
            raise ValueError(f"{self._who}: plug_disk(): {wrong[0]}")
        await self._plugs("plug_disk()").plug_disk(name, size_mib)

    @operation
    async def unplug_disk(self, name: str) -> None:
        """Pull a disk out, when the machine's kernel has let go of it; all on it is gone.

        A snapshot that has it gives it back by ``revert()``.

        :raises UnsupportedError: its target cannot.
        :raises FabricError: it has none of this name, or does not let go of it.
        """
        await self._plugs("unplug_disk()").unplug_disk(name)

    async def plug_cards(self, ports: Sequence[str], use: str, *, plugged: bool) -> None:
        """Plug the cards in that end at these ports of the fabric, or pull them out."""
        plugs = self._plugs(use)
        for port in ports:
            await (plugs.plug_card(port) if plugged else plugs.unplug_card(port))

    def _plugs(self, use: str) -> Plugs:
        self._refuse_out_of_order()
        self.require("plug", use)
        assert isinstance(self._means, Plugs)
        return self._means

    @operation
    async def has_crashed(self) -> None:
        """Take in that it went off without a goodbye."""
        self.out_of_order = "crashed"
        with contextlib.suppress(CarthageError):
            await self.give_addresses_back(tell=False)
        await self.powered().stop(timeout_s=0)
        self._stopped = True

    async def switched_on(self) -> None:
        """As :meth:`start`, for a fault that heals."""
        await self.start()

    @opening
    def freeze(self) -> Fault:
        """Stop all processes of the machine at once, until it heals.

        Its kernel goes on: it answers pings, and accepts connections that nobody serves.

        :raises FaultError: it is stopped, frozen or crashed already.
        :raises UnsupportedError: its target cannot.
        """
        from pytest_carthage.live.faults.machines import freeze

        self.require("freeze", "freeze()", Place.of_author)
        return freeze(self._rooms.faults, self)

    @opening
    def crash(self) -> Fault:
        """Switch the machine off without a goodbye; to heal it is to start it until it is ready.

        :raises FaultError: it is stopped, frozen or crashed already.
        :raises UnsupportedError: its target cannot start it again.
        """
        from pytest_carthage.live.faults.machines import crash

        self.require("power", "crash()", Place.of_author)
        return crash(self._rooms.faults, self)
