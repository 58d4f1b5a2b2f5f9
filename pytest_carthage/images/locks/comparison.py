"""What differs from a lock: each difference is a line for people."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_carthage.errors import LockError
from pytest_carthage.images.locks.digests import base_digest, short, versions_digest
from pytest_carthage.images.locks.files import located
from pytest_carthage.model.keys.inputs import hash_of

if TYPE_CHECKING:
    from pytest_carthage.images.locks.lock import Ansible, Lock, LockedImage
    from pytest_carthage.model.image import Image
    from pytest_carthage.store.layer import LayerMeta

__all__ = [
    "advice",
    "ansible_differences",
    "check_layer",
    "declaration_differences",
    "file_differences",
    "layer_differences",
    "listed",
    "package_differences",
    "refuse_image",
]

_MOST = 20


def declaration_differences(lock: Lock, layout: str, images: Mapping[str, Image]) -> Iterator[str]:
    """What is declared otherwise than when it was locked."""
    for name in sorted(set(lock.images) - set(images)):
        yield f"image {name!r}: locked, now the layout {layout!r} has none of that name"
    for name, image in sorted(images.items()):
        locked = lock.images.get(name)
        if locked is None:
            yield f"image {name!r}: not locked, now layout {layout!r} has it"
        elif locked.declared != image.key:
            yield from _step_differences(name, image, locked)


def _step_differences(name: str, image: Image, locked: LockedImage) -> Iterator[str]:
    """Which of an image's declarations are others than those that were locked."""
    steps = [(step.key, step.title) for step in image.steps]
    layers = [(layer.step, layer.title) for layer in locked.layers[1:]]
    was, now = dict(layers), dict(steps)
    if steps == layers:
        yield f"image {name!r}: its base, configuration or tag is declared otherwise"
        return
    titles = {title for _, title in layers}
    for key, title in steps:
        if key not in was:
            how = "is declared otherwise" if title in titles else "is not locked"
            yield f"image {name!r}: task {title!r} {how}"
    left = {title for _, title in steps}
    for key, title in layers:
        if key not in now and title not in left:
            yield f"image {name!r}: task {title!r} is locked, and there is none now"
    if set(was) == set(now):
        yield f"image {name!r}: its tasks have another order"


def file_differences(lock: Lock) -> Iterator[str]:
    """Files that are not what they were when it was locked."""
    for name, locked in lock.files.items():
        now = hash_of(located(name, lock.path.parent))
        if now != locked:
            yield f"file {name}: locked {locked[:12]}, now {now[:12] if now else 'not there'}"


def ansible_differences(lock: Lock, now: Ansible | None) -> Iterator[str]:
    """Versions of Ansible's that differ; None: there is no Ansible here."""
    locked = lock.ansible
    if locked is None:
        return
    version = now.version if now is not None else ""
    if version != locked.version:
        yield f"ansible-core: locked {locked.version}, now {version or 'none'}"
    there = now.collections if now is not None else {}
    for name, was in locked.collections.items():
        if there.get(name) != was:
            yield f"Ansible collection {name}: locked {was}, now {there.get(name, 'none')}"
    for name in set(there) - set(locked.collections):
        yield f"Ansible collection {name}: not locked, now {there[name]}"


def layer_differences(
    locked: LockedImage,
    number: int,
    meta: LayerMeta,
    tree: Path,
    packages: Mapping[str, str],
) -> Iterator[str]:
    """What of a layer is not as it was locked."""
    layer = locked.layers[number]
    if versions_digest(packages) != layer.packages:
        differences = list(package_differences(locked.packages, packages, has_all=False))
        yield from differences or ["its packages are others than those that were locked"]
    elif number == 0 and (now := base_digest(meta, tree)) != locked.digest:
        yield f"base: locked {short(locked.digest)}, now {short(now)}"
    elif meta.key != layer.key:
        yield f"layer {meta.title!r}: locked {layer.key[:12]}, now {meta.key[:12]}, of other files"


def package_differences(
    locked: Mapping[str, str], now: Mapping[str, str], *, has_all: bool
) -> Iterator[str]:
    """Packages that have another version than was locked.

    :param has_all: these are all packages that there will be; what is missing differs, too.
    """
    for name, version in now.items():
        was = locked.get(name)
        if was is None:
            yield f"package {name}: not locked, now {version}"
        elif was != version:
            yield f"package {name}: locked {was}, now {version}"
    if has_all:
        for name in set(locked) - set(now):
            yield f"package {name}: locked {locked[name]}, now none"


# refusing


def refuse_image(lock: Lock, image: Image) -> None:
    """Refuse an image that is not locked.

    :raises LockError: it is not.
    """
    if lock.of(image) is None:
        having = ", ".join(sorted(lock.images)) or "none"
        raise LockError(
            f"image {image.name!r} ({image.place}): the lock {lock.path} of layout "
            f"{lock.layout!r} has no image that is declared like it; it has: {having}\n"
            "try: make it an attribute of the layout, and `pytest-carthage lock` again"
        )


def check_layer(
    lock: Lock,
    image: Image,
    number: int,
    meta: LayerMeta,
    tree: Path,
    packages: Mapping[str, str],
    *,
    is_new: bool,
) -> None:
    """Refuse a layer that is not what was locked.

    :param number: of the layer, 0 for the base.
    :param packages: all that are there with it.
    :param is_new: it was made just now, and is not kept.
    :raises LockError: with what differs.
    """
    locked = lock.of(image)
    if locked is None or number >= len(locked.layers):
        refuse_image(lock, image)
        return
    differences = list(layer_differences(locked, number, meta, tree, packages))
    if differences:
        state = "was built, and is not kept" if is_new else "is in the store"
        remedy = advice(differences, rm=None if is_new else image.name)
        raise LockError(
            f"image {image.name!r}: its layer {meta.title!r} {state}, and differs from the lock "
            f"{lock.path}:\n{listed(differences)}\n{remedy}"
        )


def listed(differences: Iterable[str]) -> str:
    """Differences for a message: sorted, not too many."""
    every = sorted(set(differences))
    lines = [f"  {difference}" for difference in every[:_MOST]]
    if len(every) > _MOST:
        lines.append(f"  and {len(every) - _MOST} more")
    return "\n".join(lines)


def advice(differences: Iterable[str], *, rm: str | None = None) -> str:
    """What to do where something differs from a lock.

    :param rm: name of an image that is in the store, and not as it was locked.
    """
    remedies = ["`pytest-carthage lock` again, to take what is there now"]
    if rm is not None:
        remedies.insert(0, f"`pytest-carthage images rm {rm}` to have it built anew")
    if any("package " in difference for difference in differences):
        remedies.append(
            'Image.debian(..., mirror="http://snapshot.debian.org/archive/debian/DATE"), which has '
            "the versions of a day"
        )
    return f"try: {', or '.join(remedies)}"
