"""The ``netns`` target: a machine is a set of namespaces over the host's own file system."""

from __future__ import annotations

import platform
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_carthage.errors import CreationError, FabricError, Problem
from pytest_carthage.fabric import privilege, programs
from pytest_carthage.planning.needs import missing_links
from pytest_carthage.provider import Channel, Context, Identity

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from pytest_carthage.model.role import Role
    from pytest_carthage.planning.plan import Plan, PlannedMachine

_OLDEST_KERNEL = (5, 12)  # mount_setattr(2)


@dataclass(slots=True)
class NetnsMachine:
    """A machine whose first process is its own agent."""

    identity: Identity
    channel: Channel
    _context: Context
    _name: str
    _log: Path

    async def start(self) -> None:
        """Start it again, with the links that it had."""
        await self._context.fabric.request("start", machine=self._name)
        self.channel = await self._context.channel(self._name)

    async def stop(self, *, timeout_s: float = 10.0) -> None:
        """Ask its main process to end, then end all others."""
        await self._context.fabric.request("stop", machine=self._name, timeout_s=timeout_s)

    async def logs(self) -> str:
        """What its main process printed."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""


class NetnsProvider:
    """Machines of namespaces: in milliseconds, with nothing installed, for any user."""

    kind = "netns"

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
            limited = [m.name for m in plan.machines.values() if m.limits] if plan else []
            if limited:
                problems.append(
                    Problem(
                        who=self.kind,
                        what=f"limits (of {', '.join(limited)}) need control groups of root",
                        remedy="run as root, or leave limits= out for this target",
                    )
                )
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
                )
            )
        if plan is not None:
            problems += missing_links(self.kind, plan)
        return [*problems, *self._missing_programs(plan)]

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
        """Create the namespaces, links and first process."""
        try:
            await context.place(planned, "process")
            channel = await context.channel(planned.name)
        except FabricError as error:
            raise CreationError(
                f"machine {planned.name!r} of layout {context.plan.layout!r}: {error}"
                f"{_last_lines(context.logs / f'{planned.name}.log')}"
            ) from error
        identity = Identity(
            kind=self.kind,
            run=context.run,
            environment=context.environment,
            name=planned.name,
        )
        log = context.logs / f"{planned.name}.log"
        return NetnsMachine(identity, channel, context, planned.name, log)

    async def destroy(self, identity: Identity) -> None:
        """Nothing to do: it ends with its fabric."""

    async def leftovers(self, run: str) -> Sequence[Identity]:
        """None: nothing of it outlives its fabric."""
        return ()


def _last_lines(log: Path, lines: int = 5) -> str:
    """The end of a log, for a message."""
    if not log.exists():
        return ""
    kept = log.read_text(errors="replace").rstrip().splitlines()[-lines:]
    return "".join(f"\n  {line}" for line in ("it printed last:", *kept)) if kept else ""
