"""GRUB, as Debian has it: what makes disks bootable."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_carthage.errors import BuildError
from pytest_carthage.images.exports.boot.packages import unpacked
from pytest_carthage.images.exports.places import room

if TYPE_CHECKING:
    from pytest_carthage.images.exports.notes import Note
    from pytest_carthage.store.root import Store

__all__ = ["fetched_grub"]

_PACKAGES = ("grub-common", "grub-pc-bin", "grub-efi-amd64-bin")
_ADVICE = "try: apt-get update, or boot='kernel'"


async def _chosen(options: Sequence[str]) -> Sequence[str]:
    return _PACKAGES


async def fetched_grub(store: Store, *, doing: str, note: Note) -> Path:
    """The folder with GRUB's files, fetched once, and kept.

    :raises BuildError: it is not for this processor, or could not be fetched.
    """
    machine = os.uname().machine
    if machine != "x86_64":
        raise BuildError(
            f"{doing}: a boot loader is made for x86_64 alone, and this is {machine}; "
            "try: boot='kernel'"
        )
    folder = store.folder("kernels") / f"grub-{machine}"
    if folder.is_dir():
        return folder
    async with store.claims.claimed(f"grub-{machine}", note):
        if not folder.is_dir():
            async with room(store, doing) as work:
                note("fetching GRUB")
                files = await unpacked(_chosen, work, doing=doing, advice=_ADVICE)
                await asyncio.to_thread(files.rename, folder)
    return folder
