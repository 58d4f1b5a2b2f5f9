"""What would keep images from being built as they are to be, found before the first is begun."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_carthage.errors import BuildError, LockError
from pytest_carthage.images import lock as locks
from pytest_carthage.images import recipe
from pytest_carthage.images.store import Layer, Store

if TYPE_CHECKING:
    from pytest_carthage.images.apt import Apt
    from pytest_carthage.images.lock import Lock, LockedImage
    from pytest_carthage.images.policy import Policy
    from pytest_carthage.images.recipe import Wanted
    from pytest_carthage.model.image import Image
    from pytest_carthage.model.layout import Layout
    from pytest_carthage.planning.plan import Plan

    #: is told who (an image) does what, in a few words
    Note = Callable[[str, str], None]

__all__ = ["check", "check_layout"]

_STATUS = "var/lib/dpkg/status"


async def check_layout(
    layout: type[Layout], plan: Plan, policy: Policy, *, note: Note, store: Store | None = None
) -> None:
    """Check what a layout's images need, before the first is built; nothing is changed.

    :raises LockError: something differs from the lock, with all that does.
    :raises BuildError: something would have to be fetched, and nothing may be.
    """
    if policy.lock is None and not policy.offline:
        return
    images = locks.images_of(layout, plan)
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
    found = list(lock.declarations(layout, images))
    found += await asyncio.to_thread(lambda: list(lock.changed_files()))
    if lock.ansible is not None:
        now = await asyncio.to_thread(locks.ansible_here, lock.path.parent)
        found += lock.changed_ansible(now)
    stale: str | None = None
    for name, image in images.items():
        locked = lock.of(image)
        if locked is None:
            continue
        try:
            wanted = await recipe.look(image, store, offline=offline)
        except BuildError as error:
            found.append(f"image {name!r}: {error}")
            continue
        there = _there(wanted)
        if not there and image.kind != "debian":
            inputs = await recipe.base_inputs(image, store, offline=offline)
            if recipe.base_key(image, inputs) != locked.layers[0].key:
                what = ", ".join(inputs) or image.reference
                found.append(f"image {name!r}: base: {what}: not what it was when it was locked")
                continue
        differ = await asyncio.to_thread(lambda a, b: list(_of_layers(a, b)), locked, there)
        stale = stale or (image.name if differ else None)
        if not found and not differ and not offline and len(there) < len(wanted):
            note(image.name, "comparing what is to be had with the lock")
            differ = [one async for one in _to_come(image, locked, wanted, there, store)]
        found += [f"image {name!r}: {one}" for one in differ]
    if found:
        many = len(set(found))
        count = "one thing differs" if many == 1 else f"{many} things differ"
        raise LockError(
            f"layout {layout!r}: {count} from the lock {lock.path}, and nothing was built:\n"
            f"{locks.listed(found)}\n{locks.advice(found, rm=stale)}"
        )


def _there(wanted: list[Wanted]) -> list[Layer]:
    """The layers that exist, up to the first that is missing."""
    found = []
    for one in wanted:
        if one.layer is None:
            break
        found.append(one.layer)
    return found


def _of_layers(locked: LockedImage, there: list[Layer]) -> list[str]:
    """What differs of layers that exist: the lowest that does."""
    for number, (layer, packages) in enumerate(zip(there, locks.states(there), strict=True)):
        if number < len(locked.layers):
            differ = locks.layer_differences(locked, number, layer.meta, layer.tree, packages)
            if found := list(differ):
                return found
    return []


async def _to_come(
    image: Image, locked: LockedImage, wanted: list[Wanted], there: list[Layer], store: Store
) -> AsyncIterator[str]:
    """What would differ of layers that are to be built, as far as it can be known."""
    from pytest_carthage.images.apt import simulate_base

    cache = store.folder("apt")
    if not there:
        if image.kind == "debian":
            now = await simulate_base(image, cache)
            if locks.versions_digest(now) != locked.layers[0].packages:
                alone = len(wanted) == 1
                for one in locks.package_differences(locked.packages, now, has_all=alone):
                    yield one
        return
    packages = dict(list(locks.states(there))[-1])
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
        if locks.versions_digest(packages) != locked.layers[number].packages:
            alone = number == len(wanted) - 1
            for one in locks.package_differences(locked.packages, packages, has_all=alone):
                yield one
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
        told = "\n".join(f"  {line}" for line in lines)
        raise BuildError(
            f"this run is offline, and what is missing would have to be fetched:\n{told}\n"
            "try: once with a network, or `pytest-carthage unbundle` of a bundle that has it"
        )


async def _lacking(
    image: Image, wanted: list[Wanted], there: list[Layer], store: Store
) -> AsyncIterator[str]:
    """What of an image that is to be built is not on this host, as far as it can be known."""
    from pytest_carthage.images.apt import Apt, native_architecture

    first = wanted[len(there)]
    cache = store.folder("apt")
    try:
        if not there and image.kind == "debian":
            apt = await asyncio.to_thread(
                Apt.of,
                suite=image.suite,
                architecture=native_architecture(),
                mirror=image.mirror,
                cache=cache,
                offline=True,
            )
            await apt.get_base(image.variant, image.packages, note=lambda text: None)
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
    for one in wanted[len(there) :]:
        task = one.step.task if one.step is not None else None
        if task is not None and task.network:
            assert one.step is not None
            yield f"layer {one.title!r} is missing: its task ({one.step.place}) wants the network"


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
        from pytest_carthage.images.apt import Apt

        return Apt.of(
            suite=self.suite,
            architecture=self.architecture,
            mirror=image.mirror,
            cache=cache,
            offline=offline,
        )


def _ground(layers: list[Layer]) -> _Ground | None:
    """What the next packages would be installed on; None: it is no Debian."""
    status = _read(layers, _STATUS)
    release = _read(layers, "usr/lib/os-release").decode(errors="replace")
    suite = re.search(r'^VERSION_CODENAME="?([^"\n]+)', release, re.MULTILINE)
    if not status or suite is None:
        return None
    found = re.search(rb"^Package: dpkg\n(?:.+\n)*?Architecture: (.+)$", status, re.MULTILINE)
    return _Ground(status, suite[1], found[1].decode() if found else "amd64")


def _read(layers: list[Layer], name: str) -> bytes:
    for layer in reversed(layers):
        path = layer.tree / name
        if path.is_file():
            return path.read_bytes()
    return b""
