"""Machines that are not booted: their memory is that of the first boot of what they are made of.

That of a recipe's *model* is kept in the store, with its disk. A clone begins there, is told who it
is, and starts what the model has left out.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_carthage import clock
from pytest_carthage.images.exports.disks.values import BootDisk
from pytest_carthage.providers.libvirt.memory import Saved
from pytest_carthage.providers.libvirt.models import LEFT, boot_model
from pytest_carthage.store.disks import DiskMeta

if TYPE_CHECKING:
    from pytest_carthage.handles.channel import Channel
    from pytest_carthage.providers.libvirt.recipes import Recipe
    from pytest_carthage.providers.libvirt.service import Service
    from pytest_carthage.store.disks import KeptDisk

__all__ = ["Memory", "ensure_memory"]

_FILES = ("disk", "memory", "ram", LEFT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """What a clone begins with."""

    saved: Saved
    #: pages of the main memory
    ram: Path
    #: disk that belongs to it
    disk: BootDisk
    #: units that were not started yet
    left: tuple[str, ...]
    #: folders of the store that must stay as long as the clone
    held: tuple[Path, ...]


async def ensure_memory(
    recipe: Recipe,
    service: Service,
    *,
    emulator: str,
    folder: Path,
    channel: Callable[[Path], Awaitable[Channel]],
    note: Callable[[str], None],
) -> Memory:
    """Find the memory of a recipe in the store, or boot a model for it; it is held.

    One process at a time makes it, and others that want it wait.

    :param folder: where the model can have its files.
    :param channel: opens one to the agent behind a socket.
    :raises CarthageError: the model does not boot, or its memory cannot be kept.
    :raises OSError: likewise.
    """
    store = recipe.built.store
    versions = await service.call(lambda libvirt, connection: _versions(connection))
    key = hashlib.sha256(f"{recipe.key} {versions} {emulator}".encode()).hexdigest()[:32]
    kept = await _held(recipe, key)
    if kept is None:
        async with store.claims.claimed(key, note) as claim:
            kept = await _held(recipe, key)
            if kept is None:
                claim.tell("boots the first machine of its recipe", recipe.built.image.name)
                note("is the first of its recipe: boots, and its memory is kept for others")
                kept = await _make(recipe, key, service, folder, channel, note)
                await store.holding.added(kept.path)
    store.disks.use(kept)
    saved = await asyncio.to_thread(Saved.read, kept.path / "memory")
    above = replace(recipe.base, key=key, folder=kept.path, path=kept.path / "disk", format="qcow2")
    return Memory(
        saved=saved,
        ram=kept.path / "ram",
        disk=above,
        left=tuple((kept.path / LEFT).read_text().split()),
        held=(recipe.base.folder, kept.path),
    )


async def _held(recipe: Recipe, key: str) -> KeptDisk | None:
    store = recipe.built.store
    if await store.holding.added(store.disks.path(key)):
        return await asyncio.to_thread(store.disks.get, key)
    return None


async def _make(
    recipe: Recipe,
    key: str,
    service: Service,
    folder: Path,
    channel: Callable[[Path], Awaitable[Channel]],
    note: Callable[[str], None],
) -> KeptDisk:
    store = recipe.built.store
    began = clock.monotonic_s()
    work = store.work(key)
    await asyncio.to_thread(store.take_away, work)
    work.mkdir(mode=0o711, parents=True)
    try:
        await boot_model(recipe, service, folder, channel, work, note)
        meta = DiskMeta(
            key=key,
            image=recipe.built.image.name,
            top=recipe.built.layers[-1].key,
            files={name: (work / name).stat().st_size for name in _FILES},
            append=recipe.base.append,
            kernel="",
            made_at=clock.unix_s(),
            seconds=clock.monotonic_s() - began,
        )
        return await asyncio.to_thread(store.disks.commit, work, meta)
    except BaseException:
        await asyncio.to_thread(store.take_away, work)
        raise


def _versions(connection: Any) -> list[int]:
    return [connection.getVersion(), connection.getLibVersion()]
