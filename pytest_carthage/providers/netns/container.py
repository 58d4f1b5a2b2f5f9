"""What a machine with an image is made of: a system container."""

from __future__ import annotations

import os
import platform
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_carthage.channels.agent import Interrupted, execute
from pytest_carthage.errors import FabricError, Problem
from pytest_carthage.fabric.container import delegation
from pytest_carthage.fabric.host import privilege, subids
from pytest_carthage.model.stop_signal import signal_number
from pytest_carthage.placing import systemd
from pytest_carthage.store import disk

if TYPE_CHECKING:
    from pytest_carthage.fabric.spec import RootSpec
    from pytest_carthage.model.image import ImageConfig
    from pytest_carthage.planning.plan import Plan, PlannedMachine
    from pytest_carthage.provider import BuiltImage, Channel

__all__ = ["completed", "problems", "root", "state_of_init"]

_ASK_S = 5.0
#: overlayfs over layers that are shown with other owners
_OLDEST_KERNEL = (5, 19)


def problems(plan: Plan, kind: str) -> list[Problem]:
    """What this host lacks for machines with images, and to build images that they have."""
    machines = [
        one for one in plan.machines.values() if one.target == kind and one.image is not None
    ]
    if not machines:
        return []
    found = subids.forbidden(kind)
    release = tuple(int(part) for part in platform.release().split("-")[0].split(".")[:2])
    if release < _OLDEST_KERNEL and privilege.is_privileged():
        found.append(
            Problem(
                who=kind,
                what=f"Linux {platform.release()} is older than 5.19, which the files of machines"
                " with images need",
                remedy='use a newer kernel (Debian 12 has 6.1), or on="podman"',
            )
        )
    booted = [machine.name for machine in machines if machine.init is not None]
    if booted:
        found += delegation.problems(kind, f"machines with systemd (of {', '.join(booted)})")
    from pytest_carthage.images.bases.tools import missing_to_build

    return [*found, *missing_to_build([one.image for one in machines if one.image is not None])]


def completed(planned: PlannedMachine, config: ImageConfig) -> PlannedMachine:
    """A machine with what its image says beside its files, which may be known only when built."""
    command = planned.command
    if command is None and planned.init is None:
        command = config.command
    return replace(planned, command=command, env={**dict(config.env), **planned.env})


def root(planned: PlannedMachine, built: BuiltImage, folder: Path) -> RootSpec:
    """The root of a machine, whose own layer is new and empty.

    :param folder: of the environment.
    :raises OSError: its folders cannot be made.
    :raises ValueError: its image is to be ended by a signal that there is not.
    """
    own = folder / "roots" / planned.name
    disk.delete(own)  # of a machine of this name that was removed
    for name in ("upper", "work"):
        (own / name).mkdir(parents=True)
        (own / name).chmod(0o755)  # of the machine's root folder, whatever the umask
    if privilege.is_privileged():
        ids = subids.of_root()
        os.chown(own / "upper", ids[0], ids[0])
    else:  # those of his fabric
        maps = subids.of_user()
        ids = 0, maps.size if maps is not None else 1
    return {
        "lower": [str(path) for path in built.lower],
        "upper": str(own / "upper"),
        "work": str(own / "work"),
        "ids": ids,
        "init": list(systemd.COMMAND) if planned.init == "systemd" else [],
        "files": dict(systemd.FILES) if planned.init == "systemd" else {},
        "user": built.config.user,
        "workdir": built.config.workdir,
        "stop_signal": signal_number(built.config.stop_signal or "SIGTERM"),
        "strict": planned.strict_settings,
    }


async def state_of_init(channel: Channel) -> str:
    """What systemd says of itself, and the units that it is waiting for."""
    printed = []
    for argv in (("systemctl", "is-system-running"), systemd.JOBS):
        try:
            _, out, err = await execute(
                channel, argv, user=None, cwd=None, env={}, input=None, timeout_s=_ASK_S
            )
        except (Interrupted, FabricError) as error:
            return str(error) or "no answer"
        printed.append((out.strip() or err.strip()).decode(errors="replace"))
    state, jobs = printed
    units = systemd.unfinished(jobs)
    return f"{state}: {units}" if units else state or "nothing"
