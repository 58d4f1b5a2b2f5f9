"""Reserves machines that exist: a server in a rack, a colleague's VM, an appliance."""

from __future__ import annotations

import asyncio
import importlib.util
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pytest_carthage import clock
from pytest_carthage.channels.agent import execute
from pytest_carthage.channels.ssh.lease import Lease, state_of
from pytest_carthage.errors import CreationError, FabricError, Problem
from pytest_carthage.model.ssh import Ssh
from pytest_carthage.provider import Traits
from pytest_carthage.providers.ssh.answering import Answering
from pytest_carthage.providers.ssh.host import Reserved, way_of
from pytest_carthage.providers.ssh.machine import SshMachine, journal

if TYPE_CHECKING:
    from pytest_carthage.planning.plan import Plan, PlannedMachine
    from pytest_carthage.provider import Channel, Context, Identity

__all__ = ["SshProvider"]

#: how often a host is looked at that is somebody else's
_LOOK_S = 1.0


class SshProvider:
    """Reserves hosts: they are checked, leased, used and given back."""

    kind = "ssh"
    traits = Traits(
        root="existing",
        init=True,
        outside=True,
        settings=Ssh,
        needs_settings=True,
        lacks=frozenset(
            {
                "freeze",
                "limits",
                "command",
                "power",
                "socket",
                "console",
                "screen",
                "plug",
                "reset",
                "snapshots",
            }
        ),
    )

    def __init__(self) -> None:
        #: by name of the lease
        self._reserved: dict[str, Identity] = {}
        #: the same of who answers for them
        self._answering: dict[str, Answering] = {}

    def check(self, plan: Plan | None = None) -> Sequence[Problem]:
        """List what this host lacks; no other host is asked."""
        problems = []
        if importlib.util.find_spec("asyncssh") is None:
            problems.append(
                Problem(
                    who=self.kind,
                    what="asyncssh is not installed, by which hosts are reached",
                    remedy="python3 -m pip install 'pytest-carthage[ssh]'",
                    extra="ssh",
                    is_own=True,
                )
            )
        for planned in plan.machines.values() if plan is not None else ():
            if planned.target != self.kind or not isinstance(planned.on, Ssh):
                continue
            for name in ("password_env", "passphrase_env", "become_password_env"):
                variable = getattr(planned.on, name)
                if variable is not None and variable not in os.environ:
                    problems.append(
                        Problem(
                            who=self.kind,
                            what=f"machine {planned.name!r} takes a password from the variable "
                            f"{variable}, which is not set",
                            remedy=f"export {variable}=...",
                        )
                    )
        return problems

    async def create(self, planned: PlannedMachine, context: Context) -> SshMachine:
        """Reserve a host; return when it is leased, and its deputy answers.

        :raises CreationError: it cannot be reached, or is somebody else's, or is marked.
        """
        who = f"machine {planned.name!r} of layout {context.plan.layout!r}"
        if not isinstance(planned.on, Ssh):
            raise CreationError(f"{who}: which host is it? try: on=Ssh(...)")
        reserved = Reserved.of(planned.on, context.identity)
        try:
            answering = self._answering[reserved.lease] = Answering(reserved, planned, context)
            facts = await answering.appoint()
            context.note(planned.name, f"{reserved.way}: {facts['system']}, {facts['kernel']}")
            identity = context.identity.with_detail(
                reserved=reserved.as_detail(), limit_s=f"{reserved.limit_s:g}"
            )
            await context.intend(identity)
            self._reserved[reserved.lease] = identity
            boot = await self._lease(reserved, planned, context, answering.channel)
            identity = identity.with_detail(
                boot=boot, began_s=f"{clock.unix_s():.3f}", lease_s=f"{planned.on.lease_s:g}"
            )
            await context.intend(identity)
            await answering.settle(_lease_of(identity))
        except FabricError as error:
            text = str(error)
            raise CreationError(text if text.startswith(who) else f"{who}: {text}") from error
        return SshMachine(identity, answering, facts)

    async def take_up(self, planned: PlannedMachine, context: Context, *, runs: bool) -> SshMachine:
        """Give what a reserved host is operated by, whose deputy goes on."""
        identity = context.identity
        reserved = Reserved.from_detail(dict(identity.detail)["reserved"])
        answering = self._answering[reserved.lease] = Answering(reserved, planned, context)
        facts = await answering.open(_lease_of(identity))
        return SshMachine(identity, answering, facts)

    async def destroy(self, identity: Identity) -> None:
        """Give a host back: its steps are done, then its lease is taken away.

        :raises RestoreError: a step failed, and it is marked.
        :raises FabricError: it cannot be reached.
        """
        detail = dict(identity.detail)
        if "reserved" not in detail:
            return  # nobody has laid a lease down
        reserved = Reserved.from_detail(detail["reserved"])
        if (answering := self._answering.pop(reserved.lease, None)) is not None:
            answering.leave()
        await reserved.give_back()
        self._reserved.pop(reserved.lease, None)

    async def leftovers(self, run: str) -> Sequence[Identity]:
        """What this process has reserved and not given back: hosts are not searched for."""
        return [identity for identity in self._reserved.values() if identity.run == run]

    def log_command(
        self, facts: Mapping[str, Any], *, lines: int | None, follow: bool
    ) -> Sequence[str]:
        """The command there that prints its journal since it was reserved."""
        return journal(facts["began_s"], lines=lines, follow=follow)

    async def lease(self, planned: PlannedMachine) -> str | None:
        """Say who uses a host, or why it is not to be used; None: it is free.

        :raises FabricError: it cannot be reached.
        """
        held = await self._host(planned).look()
        return None if held is None else str(held)

    async def break_lease(self, planned: PlannedMachine) -> str | None:
        """Take a lease away, whoever's it is, or a mark; returns what it was, or None.

        :raises FabricError: it cannot be reached.
        """
        host = self._host(planned)
        held = await host.look()
        if held is None:
            return None
        await host.release(held)
        return f"broken: {held}"

    def _host(self, planned: PlannedMachine) -> Reserved:
        assert isinstance(planned.on, Ssh)
        return Reserved(way=way_of(planned.on), lease="", owner="")

    async def _lease(
        self, reserved: Reserved, planned: PlannedMachine, context: Context, channel: Channel
    ) -> str:
        """Lay down a lease, in place of one whose run is dead; wait for others if that is wanted.

        Returns the boot of the host in which that was.

        :raises CreationError: it is another's, or the host is marked.
        """
        on = planned.on
        assert isinstance(on, Ssh)
        who = f"machine {planned.name!r} of layout {context.plan.layout!r}"
        breaking = f"pytest-carthage leases LAYOUT --break {planned.name}"
        deadline = clock.monotonic_s() + on.wait_s
        instead_of, is_told = "", False
        while True:
            reply, _ = await channel.request(
                "lease",
                identity=reserved.lease,
                owner=reserved.owner,
                lease_s=on.lease_s,
                instead_of=instead_of,
            )
            if reply["held"] is None:
                return str(reply["boot"])
            held = state_of(f"held 0 {reply['held']}")
            assert held is not None
            if held.text == instead_of:
                raise CreationError(
                    f"{who}: ssh {reserved.way}: what lies there cannot be replaced: it is another "
                    f"user's; try: {breaking}, as that user"
                )
            instead_of = ""
            if held.mark:
                await self._restore(who, reserved, held, context, planned, channel)
                instead_of = held.text
            elif reply["is_dead"]:
                context.note(
                    planned.name,
                    f"{reserved.way} was not given back by {held.owner}, whose run is dead: "
                    "its lease is taken over",
                )
                await self._steps(who, reserved, channel)
                instead_of = held.text
            elif clock.monotonic_s() >= deadline:
                left = f"its lease ends in {reply['left_s']:.0f} s unless it is renewed"
                raise CreationError(
                    f"{who}: ssh {reserved.way}: it is in use by {held.owner}; {left}; try: "
                    f"wait_s=600 to wait for it, or {breaking}"
                )
            else:
                if not is_told:
                    context.note(planned.name, f"waits for {reserved.way}, used by {held.owner}")
                    is_told = True
                await asyncio.sleep(_LOOK_S)

    async def _restore(
        self,
        who: str,
        reserved: Reserved,
        held: Lease,
        context: Context,
        planned: PlannedMachine,
        channel: Channel,
    ) -> None:
        """Restore a host that is marked, by the steps that this layout has."""
        said = f"ssh {reserved.way}: it is marked by {held.owner}: {held.mark}"
        if not reserved.on_return:
            raise CreationError(
                f"{who}: {said}; try: restore it, then "
                f"pytest-carthage leases LAYOUT --break {planned.name}"
            )
        context.note(planned.name, f"{said}; it is restored first")
        await self._steps(who, reserved, channel)

    async def _steps(self, who: str, reserved: Reserved, channel: Channel) -> None:
        """Do the steps that restore a host, before it is used.

        :raises CreationError: one of them failed.
        """

        async def there(argv: Sequence[str]) -> tuple[int, bytes, bytes]:
            return await execute(
                channel, argv, user=None, cwd=None, env={}, input=None, timeout_s=None
            )

        if failure := await reserved.restore(there):
            raise CreationError(
                f"{who}: ssh {reserved.way}: it was not given back as it should be, and {failure}"
            )


def _lease_of(identity: Identity) -> dict[str, Any]:
    """What is known of the lease that lies on a host, see :meth:`.Answering.settle`."""
    detail = dict(identity.detail)
    return {
        "boot": detail["boot"],
        "began_s": float(detail["began_s"]),
        "lease_s": float(detail["lease_s"]),
    }
