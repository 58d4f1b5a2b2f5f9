"""The disks of one machine: what it writes above its image, what it is told, and empty ones."""

from __future__ import annotations

import asyncio
import subprocess
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pytest_carthage.channels.far.program import agent_program
from pytest_carthage.channels.far.window import add_window
from pytest_carthage.errors import CreationError
from pytest_carthage.fabric.host.programs import PATH
from pytest_carthage.images.exports.disks.ensuring import ensure_disk
from pytest_carthage.images.seeds.clients import lacking_client
from pytest_carthage.images.seeds.cloud import make_cloud_seed
from pytest_carthage.images.seeds.seed import make_seed
from pytest_carthage.images.seeds.wiring import wiring_of
from pytest_carthage.providers.libvirt.domain import Booting
from pytest_carthage.providers.libvirt.ways import let_in
from pytest_carthage.store import disk

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from pytest_carthage.images.exports.disks.values import BootDisk
    from pytest_carthage.model.image import ImageConfig
    from pytest_carthage.model.vm import Vm
    from pytest_carthage.planning.plan import Plan, PlannedMachine
    from pytest_carthage.providers.libvirt.domain import Places
    from pytest_carthage.providers.libvirt.ways import Entry
    from pytest_carthage.store.built import Built

__all__ = ["Made", "make", "new_disk"]

#: what qemu-img may take, which writes a few hundred KiB
_IMAGE_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """What a machine starts from."""

    booting: Booting
    #: the disk of its image, which its own one stands on
    base: BootDisk
    #: with what its image says beside its files
    completed: PlannedMachine
    entry: Entry


async def make(
    built: Built,
    planned: PlannedMachine,
    vm: Vm,
    places: Places,
    *,
    plan: Plan,
    entry_of: Callable[[BootDisk], Awaitable[Entry]],
    note: Callable[[str], None],
) -> Made:
    """Make the disks of a machine anew; returns what it starts from.

    :param entry_of: chooses the ways into a machine that stands on a disk.
    :raises CarthageError: its image gives no disk.
    :raises OSError: there is no room for them.
    """
    await asyncio.to_thread(disk.delete, places.folder)  # of a machine of this name
    await asyncio.to_thread(places.folder.mkdir, mode=0o700)
    base = await ensure_disk(built, boot=vm.boot, note=note)
    await asyncio.to_thread(new_disk, places.disk, above=base)
    completed = _completed(planned, built.config)
    is_told = base.seed == "carthage" and base.path != built.image.path
    if is_told and (lacking := lacking_client(wiring_of(planned), built.lower)):
        raise CreationError(lacking)
    entry = replace(await entry_of(base), env=completed.env)
    seed = _seed(completed, vm, plan, built, base, entry)
    await asyncio.to_thread(places.seed.write_bytes, seed)
    add_window(places.seed)
    for each in vm.disks:
        await asyncio.to_thread(new_disk, places.further(each.name), size_mib=each.size_mib)
    booting = Booting(kernel=base.kernel, initrd=base.initrd, append=base.append)
    entry.write(places)
    return Made(booting=booting, base=base, completed=completed, entry=entry)


def _seed(
    planned: PlannedMachine, vm: Vm, plan: Plan, built: Built, base: BootDisk, entry: Entry
) -> bytes:
    agent = agent_program() if entry.has_agent else None
    login = entry.login
    host_keys = None if login is None else login.host_keys
    keys = (*vm.authorized_keys, *(() if login is None else (login.key,)))
    if base.seed == "cloud-init":
        return make_cloud_seed(
            planned,
            plan,
            built,
            agent=agent,
            authorized_keys=keys,
            host_keys=host_keys,
        )
    files = let_in(built.lower, keys)
    return make_seed(planned, plan, built, agent=agent, files=files, host_keys=host_keys)


def _completed(planned: PlannedMachine, config: ImageConfig) -> PlannedMachine:
    """A machine with what its image says beside its files, which may be known only when built."""
    command = planned.command
    if command is None and planned.init is None:
        command = config.command
    return replace(planned, command=command, env={**dict(config.env), **planned.env})


def new_disk(path: Path, *, above: BootDisk | None = None, size_mib: int | None = None) -> None:
    """Make a disk: empty, or one that begins as another one is, which is only read.

    :raises OSError: it cannot be made, with what qemu-img printed.
    """
    argv = ["qemu-img", "create", "-q", "-f", "qcow2"]
    if above is not None:
        argv += ["-b", str(above.path), "-F", above.format]
    argv.append(str(path))
    if size_mib is not None:
        argv.append(f"{size_mib}M")
    done = subprocess.run(
        argv, env={"PATH": PATH}, capture_output=True, text=True, timeout=_IMAGE_S, check=False
    )
    if done.returncode:
        raise OSError(f"{path.name}: {done.stderr.strip()}")
