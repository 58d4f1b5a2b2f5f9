"""Locking a layout: what is missing of its images is built first."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_carthage.images.builder import ensure
from pytest_carthage.images.locks.making import made_of
from pytest_carthage.planning.images import images_of

if TYPE_CHECKING:
    from pytest_carthage.images.locks.lock import Lock
    from pytest_carthage.images.policy import Policy
    from pytest_carthage.planning.declaration import Declaration
    from pytest_carthage.planning.plan import Plan
    from pytest_carthage.portal import Portal
    from pytest_carthage.store.built import Built

    #: is told who (an image) does what, in a few words
    Note = Callable[[str, str], None]

__all__ = ["lock_layout"]


async def lock_layout(
    layout: type[Declaration], plan: Plan, path: Path, *, portal: Portal, note: Note, policy: Policy
) -> tuple[Lock, dict[str, Built]]:
    """Build what is missing of a layout's images; returns its lock, which is not saved, and them.

    :param path: where the lock is to be.
    :raises BuildError: an image could not be built.
    """
    images = {}
    for name, image in images_of(plan).items():
        images[name] = await ensure(image, portal=portal, note=note, policy=policy)
    return await asyncio.to_thread(made_of, layout, images, path=path), images
