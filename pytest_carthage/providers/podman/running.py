"""How the container of a machine is started: entered, and waited for until it is what it is for."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_carthage import clock
from pytest_carthage.channels.log import Log
from pytest_carthage.errors import CreationError, FabricError
from pytest_carthage.placing import systemd
from pytest_carthage.providers.podman.printed import printed
from pytest_carthage.providers.podman.service import Refused, Requests, Service
from pytest_carthage.state.places import state_root
from pytest_carthage.work.booted import STARTED, state_of_systemd

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pytest_carthage.fabric.restarting import Restarting
    from pytest_carthage.planning.plan import PlannedMachine
    from pytest_carthage.provider import Channel, Context

__all__ = [
    "EndedAtOnce",
    "advice",
    "begin",
    "log_of",
    "start",
    "status_of_ended",
    "subject",
]

_LAST_LINES = 10
#: between two healthchecks of a machine that is not healthy yet
_CHECK_S = 0.1
#: what a healthcheck may take at least, however late it begins
_LEAST_CHECK_S = 5.0
#: what podman may take to notice that a container has ended
_END_S = 3.0
# these differ for each user of a container, and its agent knows them better
_NOT_INHERITED = frozenset({"HOME", "HOSTNAME", "TERM"})


class EndedAtOnce(CreationError):
    """The main process of a container has ended before anybody could enter that."""

    def __init__(self, message: str, what: str, status: int) -> None:
        super().__init__(message)
        #: as part of another sentence
        self.what = what
        self.status = status


def subject(planned: PlannedMachine, context: Context) -> str:
    """What an error is about."""
    return f"machine {planned.name!r} of layout {context.plan.layout!r}"


def advice(error: Exception) -> str:
    """What to do about an error that podman or the kernel tells in a few words."""
    if os.strerror(errno.ENOSPC).lower() not in str(error).lower():
        return ""
    folder = state_root()
    free_mib = shutil.disk_usage(folder).free >> 20
    return (
        f"; {folder} has {free_mib} MiB free; try: make room there, "
        "or set CARTHAGE_STATE to a folder on another disk"
    )


async def begin(
    planned: PlannedMachine,
    context: Context,
    service: Service,
    log: Path,
    spec: dict[str, Any] | None,
    restarting: Restarting,
) -> tuple[Channel, float]:
    """Start a container (create it first, from ``spec``), as often as its policy says.

    Returns when it was started, too.

    :raises CreationError: it does not start, or has not in the time that it has to be ready.
    """
    deadline = clock.monotonic_s() + planned.ready_timeout_s
    while True:
        try:
            channel = await start(planned, context, service, log, spec)
            return channel, clock.monotonic_s()
        except EndedAtOnce as error:
            again_s = restarting.after(error.status, 0.0)
            if again_s is None or clock.monotonic_s() + again_s > deadline:
                raise
            context.note(planned.name, f"{error.what}, and is started again in {again_s:g} s")
            spec = None
            # what its policy asks for
            await asyncio.sleep(again_s)
            restarting.count += 1


async def start(
    planned: PlannedMachine,
    context: Context,
    service: Service,
    log: Path,
    spec: dict[str, Any] | None,
) -> Channel:
    """Start a container (create it first, from ``spec``) and enter it."""
    who = subject(planned, context)
    born = log_of(log).size

    def seen() -> str:
        return log_of(log).tail(born)

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
            status = await status_of_ended(planned.name, service)
            if status is None:
                raise
            argv = " ".join(found["Config"]["Cmd"])
            what = f"its first process {argv!r} ended at once with status {status}"
            if planned.init != "systemd":
                raise EndedAtOnce(f"{who}: {what}; {_last_lines(log)}", what, status) from error
            with systemd.explained(seen):
                raise FabricError(what) from error
    except (Refused, FabricError) as error:
        raise CreationError(f"{who}: {error}{advice(error)}; {_last_lines(log)}") from error
    if planned.init == "systemd":
        await _wait_for_systemd(planned, who, channel, log, seen)
    check = found["Config"].get("Healthcheck") or {}
    if check.get("Test", ["NONE"]) != ["NONE"]:
        await _wait_for_health(planned, who, service, log, check)
    return channel


async def _enter(name: str, context: Context, found: dict[str, Any]) -> Channel:
    """Have an agent join the container.

    :raises FabricError: it could not, for one if the container has ended.
    """
    reply, _ = await context.fabric.request(
        "attach", machine=name, pid=found["State"]["Pid"], env=_environment(found)
    )
    if reply["warning"]:
        context.note(name, reply["warning"])
    return await context.channel(name)


async def status_of_ended(name: str, service: Service) -> int | None:
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


async def _wait_for_systemd(
    planned: PlannedMachine, who: str, channel: Channel, log: Path, printed: Callable[[], str]
) -> None:
    """Wait until systemd has started all that it should; units that failed are not our case."""
    try:
        with systemd.explained(printed):
            state = state_of_systemd(planned.ready_timeout_s, channel)
            seen = await systemd.booted(state, printed)
    except FabricError as error:
        raise CreationError(f"{who}: {error}; {_last_lines(log)}") from error
    if seen not in STARTED:
        raise CreationError(
            f"{who}: systemd did not start in {planned.ready_timeout_s:g} s (last: {seen}); "
            f"{_last_lines(log)}"
        )


async def _wait_for_health(
    planned: PlannedMachine, who: str, service: Service, log: Path, check: Mapping[str, Any]
) -> None:
    """Have podman run the image's healthcheck until it succeeds.

    :raises CreationError: it has not in time, with what the last one printed.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + planned.ready_timeout_s
    command = " ".join(check["Test"][1:])
    seen = "it was not run"
    while (left_s := deadline - loop.time()) > 0:
        limit_s = max(left_s, _LEAST_CHECK_S)
        try:
            health = await service.call(partial(_check_health, name=planned.name, limit_s=limit_s))
        except Refused as refused:
            if refused.status is None:  # podman lets it go on beyond its own limit
                seen = f"it has not ended in {limit_s:.0f} s"
                break
            status = await status_of_ended(planned.name, service)
            raise CreationError(
                f"{who}: its first process ended with status {status} before it was healthy "
                f"(the last check {command!r}: {seen}); {_last_lines(log)}"
                if status is not None
                else f"{who}: {refused}; {_last_lines(log)}"
            ) from refused
        if health is None:
            return
        # it notes 1 for any status
        seen = f"it failed, and printed: {str(health.get('Output', '')).strip() or 'nothing'}"
        # what it looks at tells nobody when it is there
        await asyncio.sleep(_CHECK_S)
    raise CreationError(
        f"{who}: not healthy in {planned.ready_timeout_s:g} s; the last check {command!r}: {seen}; "
        f"try: ready_timeout_s=, or the check in the machine; {_last_lines(log)}"
    )


def _check_health(podman: Requests, *, name: str, limit_s: float) -> dict[str, Any] | None:
    """Run a container's healthcheck once; returns what podman noted of it if it failed."""
    health = podman.send("get", f"/containers/{name}/healthcheck", limit_s=limit_s)
    if health["Status"] == "healthy":
        return None
    state = podman.send("get", f"/containers/{name}/json")["State"]
    # by this name in older versions
    noted = state.get("Health") or state.get("Healthcheck") or {}
    log: list[dict[str, Any]] = noted.get("Log") or [{}]
    return log[-1]


def log_of(path: Path) -> Log:
    """What a machine printed, of which conmon writes down each line behind a stamp."""
    return Log(path, printed)


def _last_lines(log: Path) -> str:
    lines = log_of(log).last_lines(_LAST_LINES)
    said = "\n".join(f"  {line}" for line in lines) or "  nothing"
    return f"log: {log}, which ends:\n{said}"
