"""Finding the kernel of an image that is to boot."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_carthage.images.exports.boot.debian import fetched
from pytest_carthage.images.exports.boot.kernel import Kernel, own_kernels

if TYPE_CHECKING:
    from pytest_carthage.images.exports.notes import Note
    from pytest_carthage.store.root import Store

__all__ = ["find_kernel"]


async def find_kernel(
    trees: Sequence[Path],
    store: Store,
    *,
    doing: str,
    note: Note,
    offline: bool = False,
) -> Kernel:
    """The image's own kernel, else Debian's for virtual machines, which is fetched once.

    :raises BuildError: there is none, and none could be fetched.
    :raises HostError: this host lacks what fetches one.
    """
    debian = await fetched(store, doing=doing, note=note, offline=offline)
    own = await asyncio.to_thread(lambda: next(own_kernels(trees), None))
    if own is None:
        return debian
    version, path = own
    return Kernel(
        version=version, path=path, trees=tuple(trees), modules=None, busybox=debian.busybox
    )
