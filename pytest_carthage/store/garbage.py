"""Removing images: what nobody needs any more, and never what somebody uses.

Who builds holds each layer from when it was found or made; who starts machines holds the top one.
So whatever is decided here is looked at once more under a claim before it goes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from pytest_carthage import clock
from pytest_carthage.fabric.host.claim import is_free
from pytest_carthage.store.broken import BrokenBuild
from pytest_carthage.store.built import SHORT
from pytest_carthage.store.disk import disk_usage
from pytest_carthage.store.downloads import old_packages
from pytest_carthage.store.inventory import bytes_of
from pytest_carthage.store.layer import Layer
from pytest_carthage.store.leftovers import leftovers
from pytest_carthage.store.records import ImageRecord
from pytest_carthage.store.removed import Removed
from pytest_carthage.store.root import Store
from pytest_carthage.store.users import users_of

__all__ = ["collect", "remove_broken", "remove_disks", "remove_layers"]


def collect(store: Store, *, older_than_s: float, dry_run: bool = False) -> list[Removed]:
    """Remove images that were not used for so long, and older layers that belong to none.

    :param dry_run: only tell what would be removed.
    """
    store.prepare()
    before = clock.unix_s() - older_than_s
    broken = list(_old_broken(store, before, dry_run))
    forgotten = list(_forget(store, before, dry_run))
    removed = [*broken, *map(_image_row, forgotten)]
    gone = {record.key for record in forgotten}
    gone_broken = {row.name for row in broken}
    needed = {key for record in store.records if record.key not in gone for key in record.layers}
    needed |= {
        key for build in store.broken if build.name not in gone_broken for key in build.layers
    }
    # what a build that failed has finished, or an edit has left behind, may be wanted again
    needed |= {layer.key for layer in store.layers if layer.meta.made_at >= before}
    removed += _disks(store, before, dry_run)
    removed += _layers(store, needed, dry_run)
    removed += _set_aside(store, dry_run)
    removed += leftovers(store, dry_run)
    removed += old_packages(store, before, dry_run)
    return removed


# images


def _image_row(record: ImageRecord) -> Removed:
    return Removed(kind="image", name=f"{record.name} ({record.key[:SHORT]})", size=0)


def _forget(store: Store, before: float, dry_run: bool) -> Iterator[ImageRecord]:
    for record in store.records:
        if record.used_at >= before:
            continue
        if dry_run:
            if not (record.top and users_of(store, record.top)):
                yield record
        elif store.forget(record):
            yield record


# disks


def _disks(store: Store, before: float, dry_run: bool) -> Iterator[Removed]:
    """Disks that were not used for so long, and what is no complete disk."""
    for kept in store.disks:
        if kept.used_at < before:
            yield from _remove_disk(store, kept.path, f"of {kept.meta.image}", dry_run)
    for path, _ in store.disks.damaged():
        yield from _remove_disk(store, path, "damaged", dry_run)


def remove_disks(store: Store, top: str) -> list[Removed]:
    """Remove the disks of an image, by its top layer, that nobody uses."""
    return [
        removed
        for kept in store.disks.of(top)
        for removed in _remove_disk(store, kept.path, f"of {kept.meta.image}", dry_run=False)
    ]


def _remove_disk(store: Store, path: Path, name: str, dry_run: bool) -> Iterator[Removed]:
    size = disk_usage(path)
    if is_free(path) if dry_run else store.remove_disk(path.name):
        yield Removed(kind="disk", name=f"{name} ({path.name[:SHORT]})", size=size)


# layers


def remove_layers(store: Store, keys: Sequence[str]) -> list[Removed]:
    """Remove layers of an image, the top first, as long as nobody needs them."""
    removed = []
    for key in keys:
        layer = store.layers.get(key)
        if layer is None:
            continue
        size = bytes_of(layer)
        if not store.remove(key):
            break
        removed.append(_layer_row(layer, size))
    return removed


def _layer_row(layer: Layer, size: int) -> Removed:
    return Removed(kind="layer", name=f"{layer.meta.title} ({layer.key[:SHORT]})", size=size)


def _layers(store: Store, needed: set[str], dry_run: bool) -> Iterator[Removed]:
    stay = set(needed)
    for layer in top_first({layer.key: layer for layer in store.layers}):
        size = bytes_of(layer)
        if layer.key not in stay and (
            not users_of(store, layer.key) if dry_run else store.remove(layer.key)
        ):
            yield _layer_row(layer, size)
        elif layer.meta.parent is not None:
            stay.add(layer.meta.parent)
    for path in store.layers.damaged():
        size = disk_usage(path)
        if dry_run or store.remove(path.name):
            yield Removed(kind="layer", name=f"damaged ({path.name[:SHORT]})", size=size)


def _set_aside(store: Store, dry_run: bool) -> Iterator[Removed]:
    """Damaged layers that were set aside; who uses an image may stand on one of them."""
    paths = sorted(store.folder("damaged").iterdir())
    if not paths or store.is_in_use():
        return
    for path in paths:
        size = disk_usage(path)
        if dry_run or store.take_away(path):
            yield Removed(kind="layer", name=f"damaged ({path.name[:SHORT]})", size=size)


def top_first(layers: Mapping[str, Layer]) -> list[Layer]:
    """Each layer before the one that it stands on."""

    def depth(layer: Layer) -> int:
        count, below = 0, layer.meta.parent
        while below is not None and below in layers and count <= len(layers):
            count, below = count + 1, layers[below].meta.parent
        return count

    return sorted(layers.values(), key=depth, reverse=True)


# broken builds


def _old_broken(store: Store, before: float, dry_run: bool) -> Iterator[Removed]:
    times = {build.name: build.at for build in store.broken}
    for path in sorted(store.broken.folder.iterdir()):
        with contextlib.suppress(FileNotFoundError):
            if times.get(path.name, path.stat().st_mtime) >= before:
                continue
            size = disk_usage(path)
            if dry_run or store.take_away(path):
                yield Removed(kind="broken build", name=path.name, size=size)


def remove_broken(store: Store, build: BrokenBuild) -> Removed | None:
    """Remove a broken build; None: somebody looks at it."""
    size = disk_usage(build.path)
    if not store.take_away(build.path):
        return None
    return Removed(kind="broken build", name=build.name, size=size)
