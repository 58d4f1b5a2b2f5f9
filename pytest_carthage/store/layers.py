"""All layers of a store: folders that have the names of their keys.

A layer is complete once its folder has that name; it is made elsewhere and renamed.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Set
from pathlib import Path

from pytest_carthage.errors import BuildError
from pytest_carthage.store import disk
from pytest_carthage.store.holding import alone
from pytest_carthage.store.layer import META, Layer, LayerMeta

__all__ = ["Layers"]


class Layers:
    """Layers by key."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        #: of layers that are known, what they stand on; it never changes
        self._parents: dict[str, str | None] = {}

    def path(self, key: str) -> Path:
        """The folder that a layer has, or would have."""
        return self.folder / key

    def get(self, key: str) -> Layer | None:
        """A complete layer; None: there is none, or it is damaged."""
        path = self.path(key)
        try:
            return Layer(path, LayerMeta.read(path))
        except (OSError, ValueError):
            return None

    def damage(self, key: str) -> str:
        """What is wrong with a layer that is there; empty: nothing, or it is not there."""
        if not os.path.lexists(self.path(key)):
            return ""
        try:
            LayerMeta.read(self.path(key))
        except OSError as error:
            return f"{META} cannot be read: {error.strerror}"
        except ValueError as error:
            return str(error)
        return ""

    def __iter__(self) -> Iterator[Layer]:
        for name in sorted(self._names()):
            layer = self.get(name)
            if layer is not None:
                yield layer

    def __contains__(self, key: str) -> bool:
        return self.get(key) is not None

    def damaged(self) -> list[Path]:
        """Folders that say nothing of themselves, or wrong things."""
        return [self.path(name) for name in sorted(self._names()) if self.damage(name)]

    def chain(self, key: str) -> tuple[Layer, ...] | None:
        """A layer with all below it, the base first; None: one is missing."""
        layers: list[Layer] = []
        wanted: str | None = key
        while wanted is not None:
            layer = self.get(wanted)
            if layer is None or layer in layers:
                return None
            layers.append(layer)
            wanted = layer.meta.parent
        return tuple(reversed(layers))

    def commit(self, work: Path, meta: LayerMeta) -> Layer:
        """Make a layer of a folder that has a ``tree``; all is on the disk before it has its name.

        :raises BuildError: it cannot be kept.
        """
        meta.save(work)
        disk.settle(work)
        path = self.path(meta.key)
        with contextlib.suppress(OSError):
            work.rename(path)
            disk.settle_names(path.parent)
        layer = self.get(meta.key)
        if layer is None:
            raise BuildError(f"layer {meta.key} could not be kept in {path.parent}")
        if work.exists():  # another process was faster
            disk.delete(work)
        return layer

    def alone(self, key: str) -> contextlib.AbstractContextManager[bool]:
        """Keep others from beginning to use a layer while the block runs.

        Yields True if that is so; False if somebody uses it, or it is not there.
        """
        return alone(self.path(key))

    def supporting(self) -> Set[str]:
        """Keys of the layers on which others stand."""
        names = self._names()
        for name in names - self._parents.keys():
            layer = self.get(name)
            if layer is not None:
                self._parents[name] = layer.meta.parent
        parents = {self._parents.get(name) for name in names}
        return {key for key in parents if key is not None}

    def _names(self) -> set[str]:
        with contextlib.suppress(FileNotFoundError), os.scandir(self.folder) as entries:
            return {entry.name for entry in entries}
        return set()
