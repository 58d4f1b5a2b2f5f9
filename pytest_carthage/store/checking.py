"""Whether what is in a store is what was recorded of it, and setting aside what is not."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pytest_carthage.store import census, disk
from pytest_carthage.store.built import SHORT
from pytest_carthage.store.layer import Layer
from pytest_carthage.store.root import Store

__all__ = ["Damage", "damages", "repair"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Damage:
    """Something in a store that is not what it was."""

    kind: Literal["layer", "record", "outcome", "disk"]
    path: Path
    #: what is wrong
    text: str
    #: what a person calls it
    name: str
    #: images that have it
    images: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """Key of the layer, the image or the step."""
        return self.path.name.partition(".")[0]


def damages(store: Store) -> Iterator[Damage]:
    """What is damaged; of a layer's files all is compared but what is in them."""
    for path in store.records.damaged():
        yield Damage(kind="record", path=path, text="it says nothing of an image", name=path.name)
    for path in store.outcomes.damaged():
        yield Damage(kind="outcome", path=path, text="it says nothing of a step", name=path.name)
    for path, text in store.disks.damaged():
        yield Damage(kind="disk", path=path, text=text, name=path.name[:SHORT])
    for path in store.layers.damaged():
        text = store.layers.damage(path.name)
        yield of_layer(store, path.name, text)
    for layer in store.layers:
        if text := _changed(layer):
            yield of_layer(store, layer.key, text)


def of_layer(store: Store, key: str, text: str) -> Damage:
    """A damaged layer, with the images that have it."""
    layer = store.layers.get(key)
    title = "" if layer is None else f"{layer.meta.title} "
    names = {record.name for record in store.records if key in record.layers}
    return Damage(
        kind="layer",
        path=store.layers.path(key),
        text=text,
        name=f"{title}({key[:SHORT]})",
        images=tuple(sorted(names)),
    )


def _changed(layer: Layer) -> str:
    if not layer.meta.census:  # of an earlier version
        return ""
    try:
        now = census.count(layer.tree)
    except OSError as error:
        return f"its files cannot be looked into: {error}"
    if now.digest == layer.meta.census:
        return ""
    if now.entries != layer.meta.entries:
        return f"it had {layer.meta.entries} files and folders, and has {now.entries}"
    return "its files are others: names, sizes, owners, permissions, times or attributes"


def repair(store: Store, damage: Damage) -> Path | None:
    """Put away what is damaged, so that the next build makes it anew.

    A layer is set aside, since machines may stand on it; a record or an outcome is removed, and so
    is a disk: who has it open keeps it.

    :returns: where a layer is now; None: it was removed, or somebody else has put it away.
    """
    if damage.kind == "layer":
        return store.set_aside(damage.key, in_any_case=True)
    if damage.kind == "disk":
        away = store.away(damage.key)
        with contextlib.suppress(FileNotFoundError):  # somebody else was faster
            damage.path.rename(away)
        disk.delete(away)
        return None
    damage.path.unlink(missing_ok=True)
    return None
