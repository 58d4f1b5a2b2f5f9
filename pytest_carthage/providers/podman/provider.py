"""The ``podman`` target: a machine is a container in a network namespace of the fabric."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from pytest_carthage.access.execution import Interrupted, execute
from pytest_carthage.errors import CreationError, FabricError, Problem
from pytest_carthage.fabric import programs
from pytest_carthage.planning.needs import missing_links
from pytest_carthage.planning.resolver import resolv_conf
from pytest_carthage.provider import Channel, Context, Identity
from pytest_carthage.providers.podman import host
from pytest_carthage.providers.podman.container import specification
from pytest_carthage.providers.podman.printed import without_stamps
from pytest_carthage.providers.podman.service import Refused, Requests, Service, load
from pytest_carthage.state.places import state_root

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pytest_carthage.images.store import Built
    from pytest_carthage.model.image import Image
    from pytest_carthage.planning.plan import Plan, PlannedMachine

__all__ = ["PodmanMachine", "PodmanProvider"]

_LAST_LINES = 10
#: what podman may take to notice that a container has ended
_END_S = 3.0
#: what podman may take beyond the time that a machine has to stop
_STOP_S = 30.0
# these differ for each user of a container, and its agent knows them better
_NOT_INHERITED = frozenset({"HOME", "HOSTNAME", "TERM"})


@dataclass(slots=True)
class PodmanMachine:
    """A container, with the agent that has joined it."""

    identity: Identity
    channel: Channel
    _planned: PlannedMachine
    _context: Context
    _service: Service
    _log: Path

    async def start(self) -> None:
        """Start the container again, with its files and links, and enter it.

        :raises CreationError: it does not start, with the last lines of its log.
        """
        await self._context.fabric.request("plug", machine=self._planned.name, up=True)
        self.channel = await _run(self._planned, self._context, self._service, self._log, None)

    async def stop(self, *, timeout_s: float = 10.0) -> None:
        """Ask its first process to end, and end all by force after the time."""
        name, fabric = self._planned.name, self._context.fabric
        # first: systemd would wait for a process that is not its child, and hear nothing
        await fabric.request("stop", machine=name)
        await self._service.call(
            lambda podman: podman.send(
                "post",
                f"/containers/{name}/stop",
                timeout=max(0, round(timeout_s)),
                limit_s=timeout_s + _STOP_S,
            )
        )
        await fabric.request("plug", machine=name, up=False)

    async def logs(self) -> str:
        """What its first process printed; with systemd, the journal, too."""
        return await asyncio.to_thread(_read_log, self._log)


class PodmanProvider:
    """Machines from images, as containers."""

    kind = "podman"

    def __init__(self) -> None:
        #: by the fabric that a service lives in: names of environments come again
        self._services: WeakKeyDictionary[Channel, asyncio.Task[Service]] = WeakKeyDictionary()
        #: images to start machines from, by the keys of their declarations
        self._built: dict[str, Built] = {}

    def check(self, plan: Plan | None = None) -> Sequence[Problem]:
        """List what this host lacks; what builds images only if the plan needs one built."""
        problems = host.check()
        if plan is not None and not problems:
            problems += _missing_to_build(plan)
        if plan is None or any(one.asks_dhcp for one in plan.machines.values()):
            problems += programs.missing_dhcp_client(self.kind)
        if plan is not None and not problems:
            problems += missing_links(self.kind, plan)
        return problems

    async def take_image(self, built: Built) -> None:
        """Take an image to start machines from."""
        load()  # it is needed next
        self._built[built.image.key] = built

    async def create(self, planned: PlannedMachine, context: Context) -> PodmanMachine:
        """Create and start a container, and enter it.

        :raises CreationError: with podman's words, and the last lines that the machine printed.
        :raises HostError: podman's service does not start here.
        """
        identity = Identity(
            kind=self.kind,
            run=context.run,
            environment=context.environment,
            name=planned.name,
        )
        if planned.image is None:
            raise CreationError(f"{_who(planned, context)}: no image; try: image=Image.debian(...)")
        try:
            service, (netns, root) = await asyncio.gather(
                self._service(context), self._place(planned, planned.image, context)
            )
            log = context.logs / f"{planned.name}.log"
            config = self._built[planned.image.key].config
            spec = specification(
                planned,
                context,
                root=root,
                netns=netns,
                env={**dict(config.env), **planned.env},
                files=_write_files(planned, context, service.folder),
                log=log,
            )
        except (OSError, FabricError) as error:
            raise CreationError(f"{_who(planned, context)}: {error}{_advice(error)}") from error
        channel = await _run(planned, context, service, log, spec)
        return PodmanMachine(identity, channel, planned, context, service, log)

    async def _place(
        self, planned: PlannedMachine, image: Image, context: Context
    ) -> tuple[str, str]:
        """Give a machine its network and its root; returns their paths in the fabric."""
        place = await context.place(planned, "namespace")
        own = context.folder / "roots" / planned.name
        if own.exists():  # of a machine of this name that was removed
            await asyncio.to_thread(shutil.rmtree, own)
        for name in ("upper", "work"):
            (own / name).mkdir(mode=0o755, parents=True, exist_ok=True)
        reply, _ = await context.fabric.request(
            "root",
            machine=planned.name,
            lower=[str(path) for path in self._built[image.key].lower],
            upper=str(own / "upper"),
            work=str(own / "work"),
        )
        return place["netns"], reply["path"]

    async def _service(self, context: Context) -> Service:
        """The service of an environment, started by the first machine that needs it."""
        task = self._services.get(context.fabric)
        if task is None:
            task = self._services[context.fabric] = asyncio.create_task(_start_service(context))
            # nobody may be left to hear of a failure
            task.add_done_callback(lambda done: done.cancelled() or done.exception())
        # whoever is cancelled while the others wait must not end it for them
        return await asyncio.shield(task)

    async def destroy(self, identity: Identity) -> None:
        """Remove the container through its environment's service, where there still is one."""
        folder = state_root() / "runs" / identity.run / "envs" / identity.environment
        service = Service.of(folder)
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

    async def leftovers(self, run: str) -> Sequence[Identity]:
        """None: nothing of it outlives its fabric."""
        return ()


def _who(planned: PlannedMachine, context: Context) -> str:
    return f"machine {planned.name!r} of layout {context.plan.layout!r}"


def _missing_to_build(plan: Plan) -> list[Problem]:
    """What this host lacks to build images that are still to be built."""
    from pytest_carthage.images import bases, store

    known = store.Store()
    wanted = [image for image in plan.images.values() if not known.is_complete(image.key)]
    return list(bases.check_tools({image.kind for image in wanted})) if wanted else []


async def _start_service(context: Context) -> Service:
    service = Service.of(context.folder)
    await service.start(context)
    return service


def _write_files(planned: PlannedMachine, context: Context, folder: Path) -> dict[str, Path]:
    """Write what a machine needs of its network from the start; path in it to file."""
    texts = {
        "/etc/hosts": context.plan.hosts_file(planned.networks),
        "/etc/resolv.conf": resolv_conf(planned),
    }
    files = {path: folder / f"{planned.name}.{path.rpartition('/')[2]}" for path in texts}
    for path, file in files.items():
        file.write_text(texts[path])
    return files


def _advice(error: Exception) -> str:
    """What to do about an error that podman or the kernel tells in a few words."""
    if os.strerror(errno.ENOSPC).lower() not in str(error).lower():
        return ""
    folder = state_root()
    free_mib = shutil.disk_usage(folder).free >> 20
    return (
        f"; {folder} has {free_mib} MiB free; try: make room there, "
        "or set CARTHAGE_STATE to a folder on another disk"
    )


async def _run(
    planned: PlannedMachine,
    context: Context,
    service: Service,
    log: Path,
    spec: dict[str, Any] | None,
) -> Channel:
    """Start a container (create it first, from ``spec``) and enter it."""
    who = _who(planned, context)

    def steps(podman: Requests) -> dict[str, Any]:
        if spec is not None:
            podman.send("post", "/containers/create", body=spec)
        podman.send("post", f"/containers/{planned.name}/start")
        found: dict[str, Any] = podman.send("get", f"/containers/{planned.name}/json")
        return found

    try:
        found = await service.call(steps)
        try:
            channel = await _enter(planned.name, context, found)
        except FabricError as error:
            status = await _status_of_ended(planned.name, service)
            if status is None:
                raise
            raise CreationError(
                f"{who}: its first process {' '.join(found['Config']['Cmd'])!r} ended at once "
                f"with status {status}; {_last_lines(log)}"
            ) from error
    except (Refused, FabricError) as error:
        raise CreationError(f"{who}: {error}{_advice(error)}; {_last_lines(log)}") from error
    if planned.init == "systemd":
        await _wait_for_systemd(planned, who, channel, log)
    return channel


async def _enter(name: str, context: Context, found: dict[str, Any]) -> Channel:
    """Have an agent join the container.

    :raises FabricError: it could not, for one if the container has ended.
    """
    await context.fabric.request(
        "attach", machine=name, pid=found["State"]["Pid"], env=_environment(found)
    )
    return await context.channel(name)


async def _status_of_ended(name: str, service: Service) -> int | None:
    """Exit status of a container that ends just now; None: it runs, or cannot be asked."""
    try:
        status: int = await service.call(
            lambda podman: podman.send(
                "post", f"/containers/{name}/wait", interval="10ms", limit_s=_END_S
            )
        )
    except Refused:
        return None
    return status


def _environment(found: dict[str, Any]) -> dict[str, str]:
    """What a command in the machine gets: the image's variables and the plan's."""
    pairs = (entry.partition("=") for entry in found["Config"]["Env"] or ())
    return {name: value for name, _, value in pairs if name not in _NOT_INHERITED}


async def _wait_for_systemd(planned: PlannedMachine, who: str, channel: Channel, log: Path) -> None:
    """Wait until systemd has started all that it should; units that failed are not our case."""
    deadline = asyncio.get_running_loop().time() + planned.ready_timeout_s
    while True:
        try:
            _, out, err = await execute(
                channel,
                ["systemctl", "is-system-running", "--wait"],
                user=None,
                cwd=None,
                env={},
                input=None,
                timeout_s=max(0.1, deadline - asyncio.get_running_loop().time()),
            )
            seen = (out.strip() or err.strip()).decode(errors="replace")
        except Interrupted:
            seen = "still starting"
        except FabricError as error:
            if error.errno is None:  # not a refusal: the machine is gone
                raise CreationError(f"{who}: {error}; {_last_lines(log)}") from error
            seen = str(error)
        if seen in ("running", "degraded"):
            return
        if asyncio.get_running_loop().time() > deadline:
            raise CreationError(
                f"{who}: systemd did not start in {planned.ready_timeout_s:g} s (last: {seen}); "
                f"{_last_lines(log)}"
            )
        # its bus is not there at once, and nothing tells when
        await asyncio.sleep(0.01)


def _read_log(log: Path) -> str:
    """What a machine printed."""
    try:
        return without_stamps(log.read_text(errors="replace"))
    except FileNotFoundError:
        return ""


def _last_lines(log: Path) -> str:
    lines = _read_log(log).strip().splitlines()[-_LAST_LINES:]
    said = "\n".join(f"  {line}" for line in lines) or "  nothing"
    return f"log: {log}, which ends:\n{said}"
