"""What would keep images from being built as they are to be, found before the first is begun."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_carthage.errors import BuildError, LockError
from pytest_carthage.fabric import plain_file
from pytest_carthage.images import recipe
from pytest_carthage.images.locks import comparison
from pytest_carthage.images.locks.digests import states, versions_digest
from pytest_carthage.images.locks.making import ansible_here
from pytest_carthage.planning.images import images_of
from pytest_carthage.store.layer import Layer
from pytest_carthage.store.root import Store
from pytest_carthage.work.debian.status import STATUS, architecture_of, suite_of

if TYPE_CHECKING:
    from pytest_carthage.images.locks.lock import Lock, LockedImage
    from pytest_carthage.images.policy import Policy
    from pytest_carthage.images.recipe import Wanted
    from pytest_carthage.model.image import Image
    from pytest_carthage.planning.declaration import Declaration
    from pytest_carthage.planning.plan import Plan
    from pytest_carthage.work.debian.apt import Apt

    #: is told who (an image) does what, in a few words
    Note = Callable[[str, str], None]

__all__ = ["check", "check_layout"]


async def check_layout(
    layout: type[Declaration], plan: Plan, policy: Policy, *, note: Note, store: Store | None = None
) -> None:
    """Check what a layout's images need, before the first is built; nothing is changed.

    :raises LockError: something differs from the lock, with all that does.
    :raises BuildError: something would have to be fetched, and nothing may be.
    """
    if policy.lock is None and not policy.offline:
        return
    images = images_of(plan)
    await check(layout.__name__, images, policy, note=note, store=store)


async def check(
    layout: str,
    images: Mapping[str, Image],
    policy: Policy,
    *,
    note: Note,
    store: Store | None = None,
) -> None:
    """As :func:`check_layout`, for images by the names that the layout knows them by."""
    store = store or Store()
    store.prepare()
    if policy.lock is not None:
        await _check_lock(policy.lock, layout, images, store, note, offline=policy.offline)
    if policy.offline:
        await _check_offline(images, store, note)


async def _check_lock(
    lock: Lock,
    layout: str,
    images: Mapping[str, Image],
    store: Store,
    note: Note,
    *,
    offline: bool,
) -> None:
    if lock.layout != layout:
        raise LockError(
            f"layout {layout!r}: the lock {lock.path} is of another layout, {lock.layout!r}; "
            f"try: --carthage-locked=FILE, or pytest-carthage lock for {layout!r}"
        )
    differences = list(comparison.declaration_differences(lock, layout, images))
    differences += await asyncio.to_thread(lambda: list(comparison.file_differences(lock)))
    if lock.ansible is not None:
        now = await asyncio.to_thread(ansible_here, lock.path.parent)
        differences += comparison.ansible_differences(lock, now)
    stale: str | None = None
    for name, image in images.items():
        locked = lock.of(image)
        if locked is None:
            continue
        try:
            wanted = await recipe.look(image, store, offline=offline)
        except BuildError as error:
            differences.append(f"image {name!r}: {error}")
            continue
        there = _there(wanted)
        if not there and image.kind != "debian":
            inputs = await recipe.base_inputs(image, store, offline=offline)
            if recipe.base_key(image, inputs) != locked.layers[0].key:
                origin = ", ".join(inputs) or image.reference
                differences.append(
                    f"image {name!r}: base: {origin}: not what it was when it was locked"
                )
                continue
        own = await asyncio.to_thread(_of_layers, locked, there)
        stale = stale or (image.name if own else None)
        if not differences and not own and not offline and len(there) < len(wanted):
            note(image.name, "comparing what is to be had with the lock")
            own = [line async for line in _to_come(image, locked, wanted, there, store)]
        differences += [f"image {name!r}: {line}" for line in own]
    if differences:
        number = len(set(differences))
        count = "one thing differs" if number == 1 else f"{number} things differ"
        raise LockError(
            f"layout {layout!r}: {count} from the lock {lock.path}, and nothing was built:\n"
            f"{comparison.listed(differences)}\n{comparison.advice(differences, rm=stale)}"
        )


def _there(wanted: list[Wanted]) -> list[Layer]:
    """The layers that exist, up to the first that is missing."""
    layers = []
    for want in wanted:
        if want.layer is None:
            break
        layers.append(want.layer)
    return layers


def _of_layers(locked: LockedImage, there: list[Layer]) -> list[str]:
    """What differs of layers that exist: the lowest that does."""
    for number, (layer, packages) in enumerate(zip(there, states(there), strict=True)):
        if number < len(locked.layers):
            differences = list(
                comparison.layer_differences(locked, number, layer.meta, layer.tree, packages)
            )
            if differences:
                return differences
    return []


async def _to_come(
    image: Image, locked: LockedImage, wanted: list[Wanted], there: list[Layer], store: Store
) -> AsyncIterator[str]:
    """What would differ of layers that are to be built, as far as it can be known."""
    from pytest_carthage.images.bases.debian import simulate

    cache = store.folder("apt")
    if not there:
        if image.kind == "debian":
            now = await simulate(image, cache)
            if versions_digest(now) != locked.layers[0].packages:
                alone = len(wanted) == 1
                for line in comparison.package_differences(locked.packages, now, has_all=alone):
                    yield line
        return
    packages = dict(list(states(there))[-1])
    ground = await asyncio.to_thread(_ground, there)
    names: list[str] = []
    for number in range(len(there), len(wanted)):
        step = wanted[number].step
        if step is None or step.kind != "packages" or ground is None:
            return
        names += step.packages
        debs = await ground.apt(image, cache, offline=False).resolve(
            ground.status, names, note=lambda text: None
        )
        packages |= {deb.name: deb.version for deb in debs}
        if versions_digest(packages) != locked.layers[number].packages:
            alone = number == len(wanted) - 1
            for line in comparison.package_differences(locked.packages, packages, has_all=alone):
                yield line
            return


async def _check_offline(images: Mapping[str, Image], store: Store, note: Note) -> None:
    missing = []
    for name, image in images.items():
        try:
            wanted = await recipe.look(image, store, offline=True)
        except BuildError as error:
            text = _without_advice(error)
            missing.append(text if text.startswith("image ") else f"image {name!r}: {text}")
            continue
        there = _there(wanted)
        if len(there) < len(wanted):
            missing += [
                f"image {name!r}: {text}" async for text in _lacking(image, wanted, there, store)
            ]
    if missing:
        lines = [line for text in dict.fromkeys(missing) for line in text.splitlines()]
        listing = "\n".join(f"  {line}" for line in lines)
        raise BuildError(
            f"this run is offline, and what is missing would have to be fetched:\n{listing}\n"
            "try: once with a network, or `pytest-carthage unbundle` of a bundle that has it"
        )


async def _lacking(
    image: Image, wanted: list[Wanted], there: list[Layer], store: Store
) -> AsyncIterator[str]:
    """What of an image that is to be built is not on this host, as far as it can be known."""
    from pytest_carthage.work.debian.apt import Apt
    from pytest_carthage.work.debian.archive import Archive, native_architecture

    first = wanted[len(there)]
    cache = store.folder("apt")
    try:
        if not there and image.kind == "debian":
            archive = await asyncio.to_thread(
                Archive.of,
                suite=image.suite,
                architecture=native_architecture(),
                mirror=image.archive,
            )
            apt = Apt.of(archive, cache, offline=True)
            await apt.get_base(image.variant, image.base_packages, note=lambda text: None)
        elif not there and image.kind == "oci" and "://" in image.reference:
            if not image.reference.startswith(("docker-archive:", "containers-storage:")):
                raise BuildError(f"{image.reference} is in a registry")
        elif first.step is not None and first.step.kind == "packages":
            ground = await asyncio.to_thread(_ground, there)
            if ground is not None:
                apt = ground.apt(image, cache, offline=True)
                await apt.get(ground.status, first.step.packages, note=lambda text: None)
    except BuildError as error:
        yield f"layer {first.title!r} is missing: {_without_advice(error)}"
    for want in wanted[len(there) :]:
        task = want.step.task if want.step is not None else None
        if task is not None and task.network:
            assert want.step is not None
            yield f"layer {want.title!r} is missing: its task ({want.step.place}) wants the network"


def _without_advice(error: BuildError) -> str:
    """What was seen; what to do is the same for all of them."""
    return re.split(r"(?:;|\n)\s*try: ", str(error))[0]


@dataclass(frozen=True, slots=True)
class _Ground:
    """What packages are installed on."""

    status: bytes
    suite: str
    architecture: str

    def apt(self, image: Image, cache: Path, *, offline: bool) -> Apt:
        """Where its packages come from."""
        from pytest_carthage.work.debian.apt import Apt
        from pytest_carthage.work.debian.archive import Archive

        archive = Archive.of(suite=self.suite, architecture=self.architecture, mirror=image.archive)
        return Apt.of(archive, cache, offline=offline)


def _ground(layers: list[Layer]) -> _Ground | None:
    """What the next packages would be installed on; None: it is no Debian."""
    status = _read(layers, STATUS)
    suite = suite_of(_read(layers, "usr/lib/os-release").decode(errors="replace"))
    return _Ground(status, suite, architecture_of(status)) if status and suite else None


def _read(layers: list[Layer], name: str) -> bytes:
    for layer in reversed(layers):
        path = layer.tree / name
        if path.is_file():
            return plain_file.read(path)
    return b""
