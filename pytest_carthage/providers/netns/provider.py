"""The ``netns`` target: a machine is a set of namespaces, over the host's files or an image's."""

from __future__ import annotations

import asyncio
import platform
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_carthage import clock
from pytest_carthage.channels.log import Log
from pytest_carthage.errors import CreationError, FabricError, Problem
from pytest_carthage.fabric.container import delegation
from pytest_carthage.fabric.host import privilege, programs
from pytest_carthage.fabric.limits import controllers
from pytest_carthage.placing import quotas, systemd
from pytest_carthage.placing.needs import missing_links
from pytest_carthage.placing.specs import limits_spec
from pytest_carthage.provider import BuiltImage, Channel, Context, End, Identity, Traits
from pytest_carthage.providers.netns import container

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pytest_carthage.model.role import Role
    from pytest_carthage.planning.plan import Plan, PlannedMachine

_OLDEST_KERNEL = (5, 12)  # mount_setattr(2)
_LAST_LINES = 5


@dataclass(slots=True)
class NetnsMachine:
    """A machine whose first process is its own agent."""

    identity: Identity
    channel: Channel
    _context: Context
    _planned: PlannedMachine
    _log: Log
    #: where in its log its present life begins
    _born: int = 0

    async def start(self) -> None:
        """Start it again, with the links that it had."""
        self._mark()
        with systemd.explained(self._printed):
            await self._context.fabric.request("start", machine=self._planned.name)
            self.channel = await self._context.channel(self._planned.name)
            await self.wait_for_init()

    async def stop(self, *, timeout_s: float = 10.0) -> None:
        """Ask its main process to end, then end all others."""
        await self._context.fabric.request("stop", machine=self._planned.name, timeout_s=timeout_s)

    async def wait_for_init(self) -> None:
        """Wait until its init has started all that it should; units that failed are not our case.

        :raises FabricError: it has not in time, with what it says of itself.
        """
        if self._planned.init is None:
            return
        limit_s = self._planned.ready_timeout_s
        begin = clock.monotonic_s()
        reply, _ = await systemd.booted(
            self._context.fabric.request("booted", machine=self._planned.name, timeout_s=limit_s),
            self._printed,
        )
        if reply["booted"]:
            return
        seen = await container.state_of_init(self.channel)
        how = f"start in {limit_s:g} s" if clock.monotonic_s() - begin >= limit_s else "start up"
        raise FabricError(f"systemd did not {how} (last: {seen})")

    def _mark(self) -> None:
        """Whatever is printed from now on is of a new life."""
        self._born = self._log.size

    def _printed(self) -> str:
        """The end of what it has printed in its present life."""
        return self._log.tail(self._born)


class EndingMachine(NetnsMachine):
    """A machine of which something may end by itself: a system container, or its main process."""

    async def ended(self) -> End:
        """Return when it has ended by itself.

        :raises FabricError: it was removed, or its fabric is gone.
        """
        reply, _ = await self._context.fabric.request("ended", machine=self._planned.name)
        self._mark()
        names = ("how", "status", "at_s", "last", "again_s", "restarts", "is_oom")
        return End(**{name: reply[name] for name in names})

    async def back(self) -> None:
        """Return when it has come back after a reboot.

        :raises FabricError: it has not in time.
        """
        with systemd.explained(self._printed):
            self.channel = await self._context.channel(self._planned.name)
            await self.wait_for_init()


class NetnsProvider:
    """Machines of namespaces: in milliseconds, with nothing installed, for any user."""

    kind = "netns"
    traits = Traits(
        root="host",
        init=True,
        outside=False,
        needs="folders",
        restarts=True,
        is_default=True,
        lacks=frozenset({"console", "plug", "reset", "screen", "snapshots"}),
    )

    def __init__(self) -> None:
        #: images to start machines from, by the keys of their declarations
        self._built: dict[str, BuiltImage] = {}

    async def take_image(self, built: BuiltImage) -> None:
        """Take an image to start machines from."""
        self._built[built.image.key] = built

    def check(self, plan: Plan | None = None) -> Sequence[Problem]:
        """List what the kernel lacks, and nft where the plan hides addresses."""
        problems = []
        release = tuple(int(part) for part in platform.release().split("-")[0].split(".")[:2])
        if release < _OLDEST_KERNEL:
            problems.append(
                Problem(
                    who=self.kind,
                    what=f"Linux {platform.release()} is older than 5.12",
                    remedy="use a newer kernel (Debian 12 has 6.1)",
                )
            )
        if not privilege.is_privileged():
            problems += privilege.user_namespace_problems()
            if plan is not None:
                problems += self._missing_to_limits(plan)
        if plan is not None:
            problems += container.problems(plan, self.kind)
            demand = quotas.Demand.of(plan, self.kind, is_apart=privilege.is_privileged())
            problems += quotas.problems(self.kind, demand)
        translates = plan is None or any(
            machine.forwards or any(link.masquerade for link in machine.links)
            for machine in plan.machines.values()
        )
        if translates and not shutil.which("nft", path="/usr/sbin:/usr/bin:/sbin:/bin"):
            problems.append(
                Problem(
                    who=self.kind,
                    what="no nft, which routers need that masquerade or forward ports",
                    remedy="apt-get install nftables",
                    packages=("nftables",),
                    is_partial=True,
                )
            )
        if plan is not None:
            problems += missing_links(self.kind, plan)
        return [*problems, *self._missing_programs(plan)]

    def _missing_to_limits(self, plan: Plan) -> list[Problem]:
        """What an ordinary user lacks for machines that are limited."""
        limited = {
            machine.name: limits
            for machine in plan.machines.values()
            if machine.target == self.kind and (limits := limits_spec(machine.limits))
        }
        if not limited:
            return []
        needed = set[str]().union(*map(controllers, limited.values()))
        return delegation.limit_problems(self.kind, ", ".join(limited), needed)

    def _missing_programs(self, plan: Plan | None) -> list[Problem]:
        """Programs of the host that machines use; without a plan, of all that we know of."""
        if plan is None:
            from pytest_carthage import roles

            known = [roles.DhcpServer(), roles.DnsServer(), roles.OspfRouter()]
            return [
                *programs.missing_dhcp_client(self.kind),
                *self._missing_to_roles(known),
                *programs.missing(self.kind, {"tcpdump": "tcpdump"}, "compiles captures' filters"),
            ]
        machines = [one for one in plan.machines.values() if one.target == self.kind]
        problems = self._missing_to_roles(role for machine in machines for role in machine.roles)
        if any(machine.asks_dhcp for machine in machines):
            problems += programs.missing_dhcp_client(self.kind)
        return problems

    def _missing_to_roles(self, roles: Iterable[Role]) -> list[Problem]:
        """Programs that roles run in machines, whose file system is the host's."""
        whose: dict[tuple[str, str], dict[str, None]] = {}
        for role in roles:
            for pair in role.programs.items():
                whose.setdefault(pair, {})[type(role).__name__] = None
        return [
            problem
            for (program, package), names in whose.items()
            for problem in programs.missing(
                self.kind, {program: package}, f"machines with {' or '.join(names)} run"
            )
        ]

    async def create(self, planned: PlannedMachine, context: Context) -> NetnsMachine:
        """Create the namespaces, links and first process.

        :raises CreationError: with the last lines that it printed.
        """
        log = Log(context.logs / f"{planned.name}.log")
        born = log.size  # of a machine of this name that was removed
        who = f"machine {planned.name!r} of layout {context.plan.layout!r}"
        try:
            with systemd.explained(lambda: log.tail(born)):
                if planned.image is None:
                    await context.place(planned, "process")
                else:
                    built = self._built[planned.image.key]
                    planned = container.completed(planned, built.config)
                    root = await asyncio.to_thread(container.root, planned, built, context.folder)
                    await context.place(planned, "process", root)
                channel = await context.channel(planned.name)
                machine = _kind(planned)(context.identity, channel, context, planned, log, born)
                await machine.wait_for_init()
        except (FabricError, OSError, ValueError) as error:
            raise CreationError(f"{who}: {error}{_last_lines(log)}") from error
        return machine

    async def take_up(
        self, planned: PlannedMachine, context: Context, *, runs: bool
    ) -> NetnsMachine:
        """Connect to a machine that stands."""
        log = Log(context.logs / f"{planned.name}.log")
        # of one that is off nobody asks anything before it is started
        channel = await context.channel(planned.name) if runs else context.fabric
        return _kind(planned)(context.identity, channel, context, planned, log, log.size)

    async def destroy(self, identity: Identity) -> None:
        """Nothing to do: it ends with its fabric."""

    async def leftovers(self, run: str) -> Sequence[Identity]:
        """None: nothing of it outlives its fabric."""
        return ()


def _kind(planned: PlannedMachine) -> type[NetnsMachine]:
    is_mortal = planned.image is not None or planned.command is not None
    return EndingMachine if is_mortal else NetnsMachine


def _last_lines(log: Log) -> str:
    """The end of a log, for a message."""
    lines = log.last_lines(_LAST_LINES)
    return "".join(f"\n  {line}" for line in ("it printed last:", *lines)) if lines else ""
