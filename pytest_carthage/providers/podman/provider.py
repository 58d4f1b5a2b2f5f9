"""The ``podman`` target: a machine is a container in a network namespace of the fabric."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_carthage import clock
from pytest_carthage.errors import CreationError, FabricError, Problem
from pytest_carthage.fabric import names
from pytest_carthage.fabric.host import privilege, programs
from pytest_carthage.fabric.restarting import Restarting
from pytest_carthage.placing import quotas, systemd
from pytest_carthage.placing.needs import missing_links
from pytest_carthage.planning.resolver import resolv_conf
from pytest_carthage.provider import Channel, Context, Identity, Traits
from pytest_carthage.providers.podman import host, running
from pytest_carthage.providers.podman.container import specification
from pytest_carthage.providers.podman.machine import PodmanMachine
from pytest_carthage.providers.podman.printed import printed
from pytest_carthage.providers.podman.service import Refused, Service, load
from pytest_carthage.store import disk

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_carthage.model.image import Image
    from pytest_carthage.planning.plan import Plan, PlannedMachine
    from pytest_carthage.store.built import Built

__all__ = ["PodmanMachine", "PodmanProvider"]


class PodmanProvider:
    """Machines from images, as containers."""

    kind = "podman"
    traits = Traits(
        root="image",
        init=True,
        outside=False,
        needs="folders",
        privileges=True,
        restarts=True,
        lacks=frozenset({"console", "plug", "reset", "screen", "snapshots"}),
    )

    def __init__(self) -> None:
        #: by the fabric that a service lives in: names of environments come again
        self._services: dict[Channel, Service] = {}
        #: images to start machines from, by the keys of their declarations
        self._built: dict[str, Built] = {}

    def check(self, plan: Plan | None = None) -> Sequence[Problem]:
        """List what this host lacks; what builds images only if the plan needs one built."""
        problems = host.check()
        if plan is not None and not problems:
            from pytest_carthage.images.bases.tools import missing_to_build

            problems += missing_to_build(_images(plan, self.kind))
            problems += host.refused(plan, self.kind)
            # its containers have no user namespace
            demand = replace(quotas.Demand.of(plan, self.kind), containers=0)
            problems += quotas.problems(self.kind, demand)
        if plan is None or any(one.asks_dhcp for one in plan.machines.values()):
            problems += programs.missing_dhcp_client(self.kind)
        if plan is not None and all(problem.is_guess for problem in problems):
            problems += missing_links(self.kind, plan)
        return problems

    async def take_image(self, built: Built) -> None:
        """Take an image to start machines from."""
        load()  # it is needed next
        self._built[built.image.key] = built

    async def prepare(self, context: Context) -> None:
        """Start the service of an environment, in its fabric.

        :raises HostError: it does not start here.
        """
        service = Service.of(context.folder)
        if not service.folder.exists():  # else it was started by who has built the environment
            await service.start(context)
        self._services[context.fabric] = service

    async def end(self, context: Context) -> None:
        """Forget the service: it has ended with the fabric."""
        self._services.pop(context.fabric, None)

    async def create(self, planned: PlannedMachine, context: Context) -> PodmanMachine:
        """Create and start a container, and enter it.

        :raises CreationError: with podman's words, and the last lines that the machine printed.
        """
        if planned.image is None:
            raise CreationError(
                f"{running.subject(planned, context)}: no image; try: image=Image.debian(...)"
            )
        identity = context.identity.with_detail(folder=str(context.folder))
        await context.intend(identity)
        try:
            service = self._services[context.fabric]
            netns, root = await self._place(planned, planned.image, context)
            log = context.logs / f"{planned.name}.log"
            config = self._built[planned.image.key].config
            spec = specification(
                planned,
                context,
                root=root,
                netns=netns,
                config=config,
                files=_write_files(planned, context, service.folder),
                log=log,
                has_control_group=privilege.is_privileged(),
            )
        except (OSError, ValueError, FabricError) as error:
            raise CreationError(
                f"{running.subject(planned, context)}: {error}{running.advice(error)}"
            ) from error
        restarting = Restarting(planned.restart)
        channel, began = await running.begin(planned, context, service, log, spec, restarting)
        return PodmanMachine(
            identity, channel, planned, context, service, log, restarting, _began=began
        )

    async def take_up(
        self, planned: PlannedMachine, context: Context, *, runs: bool
    ) -> PodmanMachine:
        """Connect to a container that stands."""
        service = self._services.setdefault(context.fabric, Service.of(context.folder))
        identity = context.identity.with_detail(folder=str(context.folder))
        log = context.logs / f"{planned.name}.log"
        # of one that is off nobody asks anything before it is started
        channel = await context.channel(planned.name) if runs else context.fabric
        restarting = Restarting(planned.restart)
        began = clock.monotonic_s()
        return PodmanMachine(
            identity, channel, planned, context, service, log, restarting, _began=began
        )

    async def _place(
        self, planned: PlannedMachine, image: Image, context: Context
    ) -> tuple[str, str]:
        """Give a machine its network and its root; returns their paths in the fabric."""
        place = await context.place(planned, "namespace")
        own = context.folder / "roots" / planned.name
        await asyncio.to_thread(disk.delete, own)  # of a machine of this name that was removed
        for name in ("upper", "work"):
            (own / name).mkdir(parents=True, exist_ok=True)
            (own / name).chmod(0o755)  # of the machine's root folder, whatever the umask
        reply, _ = await context.fabric.request(
            "root",
            machine=planned.name,
            lower=[str(path) for path in self._built[image.key].lower],
            upper=str(own / "upper"),
            work=str(own / "work"),
        )
        return place["netns"], reply["path"]

    async def destroy(self, identity: Identity) -> None:
        """Remove the container through its environment's service, where there still is one."""
        folder = dict(identity.detail).get("folder")
        if folder is None:  # it was not begun
            return
        service = Service.of(Path(folder))
        try:
            await service.call(
                lambda podman: podman.send(
                    "delete", f"/containers/{identity.name}", force=True, timeout=0, v=True
                )
            )
        except Refused as refused:
            # without a service there are no containers: they ended with the fabric
            if refused.status not in (None, 404):
                raise

    def printed(self, log: bytes) -> bytes:
        """What a machine printed, of its log file: conmon writes a stamp before each line."""
        return printed(log)

    async def leftovers(self, run: str) -> Sequence[Identity]:
        """None: nothing of it outlives its fabric."""
        return ()


def _images(plan: Plan, kind: str) -> list[Image]:
    machines = [one for one in plan.machines.values() if one.target == kind]
    return [machine.image for machine in machines if machine.image is not None]


def _write_files(planned: PlannedMachine, context: Context, folder: Path) -> dict[str, Path]:
    """Write what a machine, or its init, needs from the start; path in it to file."""
    texts = {
        "/etc/hosts": names.initial(context.plan.hosts_file(planned.networks)),
        "/etc/resolv.conf": resolv_conf(planned),
        **(systemd.FILES if planned.init == "systemd" else {}),
    }
    files = {path: folder / f"{planned.name}{path.replace('/', '.')}" for path in texts}
    for path, file in files.items():
        file.write_text(texts[path])
    return files
