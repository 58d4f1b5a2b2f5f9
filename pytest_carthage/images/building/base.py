"""The base layer of an image."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING

from pytest_carthage import clock
from pytest_carthage.fabric.host import privilege
from pytest_carthage.images import recipe
from pytest_carthage.images.bases.making import make_base
from pytest_carthage.images.bases.values import BaseTools
from pytest_carthage.images.building.bench import emptied, leave_only_tree, packages_of
from pytest_carthage.store import census, disk
from pytest_carthage.store.layer import LayerMeta

if TYPE_CHECKING:
    from pytest_carthage.fabric.host.claim import Claim
    from pytest_carthage.images.building.build import Build
    from pytest_carthage.store.layer import Layer

__all__ = ["base_layer"]


async def base_layer(build: Build) -> Layer:
    """Find the base layer, or make it.

    :raises BuildError: it cannot be made.
    :raises HostError: this host lacks what makes it.
    """
    store = build.store
    inputs = await recipe.base_inputs(build.image, store, offline=build.policy.offline)
    key = recipe.base_key(build.image, inputs)
    layer = store.layers.get(key)
    if layer is not None and await build.hold(layer):
        return layer
    async with store.claims.claimed(key, build.waiting) as claim:
        layer = store.layers.get(key)
        if layer is None or not await build.hold(layer):
            layer = await _make(build, key, inputs, claim)
    return layer


async def _make(build: Build, key: str, inputs: Mapping[str, str], claim: Claim) -> Layer:
    image, store = build.image, build.store
    work = await emptied(store.work(key))
    begin = clock.monotonic_s()
    tools = BaseTools(
        note=lambda text: build.tell(claim, text),
        offline=build.policy.offline,
        privileged=privilege.is_privileged(),
        cache=store.folder("apt"),
    )
    try:
        made = await make_base(image, work / "tree", tools)
        found = await asyncio.to_thread(census.count, work / "tree")
        meta = LayerMeta(
            key=key,
            parent=None,
            kind="base",
            title=f"base {image.origin}",
            command=image.origin,
            inputs=inputs,
            declared=image.base_key,
            made_at=clock.unix_s(),
            seconds=clock.monotonic_s() - begin,
            size=found.size,
            census=found.digest,
            entries=found.entries,
            packages=await asyncio.to_thread(packages_of, work / "tree"),
            config=made.config,
            digest=made.digest,
        )
        await build.compare(meta, work / "tree", (), is_new=True)
        await asyncio.to_thread(leave_only_tree, work)
        layer = await build.commit(work, meta)
    except BaseException:
        await asyncio.shield(asyncio.to_thread(disk.delete, work))
        raise
    store.outcomes.add(meta.declared, inputs, key)
    return layer
