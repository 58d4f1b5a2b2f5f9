"""Building images: each layer once for its content key, whoever asks for it at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_carthage import clock
from pytest_carthage.errors import BuildError
from pytest_carthage.images.building.base import base_layer
from pytest_carthage.images.building.build import Build, space_advice
from pytest_carthage.images.building.step import step_layer
from pytest_carthage.images.locks.comparison import refuse_image
from pytest_carthage.images.policy import Policy
from pytest_carthage.store.built import Built
from pytest_carthage.store.records import config_of
from pytest_carthage.store.root import Store

if TYPE_CHECKING:
    from pytest_carthage.model.image import Image
    from pytest_carthage.portal import Portal
    from pytest_carthage.store.layer import Layer

    #: is told who (an image) does what, in a few words
    Note = Callable[[str, str], None]

__all__ = ["ensure"]


async def ensure(
    image: Image,
    *,
    portal: Portal,
    note: Note,
    policy: Policy | None = None,
    store: Store | None = None,
) -> Built:
    """Find an image, or build what is missing of it; on ``portal``'s event loop.

    :raises BuildError: with the layer, its task, the command and its last lines.
    :raises HostError: this host lacks what builds such images.
    """
    store = store or Store()
    await asyncio.to_thread(store.prepare)
    policy = policy or Policy()
    if policy.lock is not None:
        refuse_image(policy.lock, image)
    build = Build(image=image, store=store, portal=portal, note=note, policy=policy)
    try:
        layers = await _layers(build)
        await store.holding.added(layers[-1].path)
    except OSError as error:
        raise BuildError(f"image {image.name!r}: {error}{space_advice(error, store)}") from error
    finally:
        build.let_go()
    config = image.config.over(config_of(layers[0].meta.config))
    built = Built(image=image, layers=tuple(layers), config=config, store=store)
    store.records.keep(built.record(clock.unix_s()))
    if image.tag is not None:
        from pytest_carthage.images.exports.oci.tagging import tag

        await tag(built, image.tag, note=lambda text: note(image.name, text))
    return built


async def _layers(build: Build) -> list[Layer]:
    """All layers of an image, the base first."""

    async def lend(image: Image) -> Built:
        # it is in no image, and so in no lock
        policy = replace(build.policy, lock=None)
        return await ensure(
            image, portal=build.portal, note=build.note, policy=policy, store=build.store
        )

    layers = [await base_layer(build)]
    await build.compare(layers[0].meta, layers[0].tree, ())
    for number in range(len(build.image.steps)):
        layer = await step_layer(build, number, layers, lend)
        await build.compare(layer.meta, layer.tree, layers)
        layers.append(layer)
    return layers
