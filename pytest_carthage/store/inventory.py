"""What is kept of images on this host, and which of them a person means."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from pytest_carthage.store.broken import BrokenBuild
from pytest_carthage.store.built import SHORT
from pytest_carthage.store.disk import bytes_on_disk
from pytest_carthage.store.layer import Layer
from pytest_carthage.store.records import ImageRecord
from pytest_carthage.store.root import Store

__all__ = ["Inventory", "Kept", "bytes_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """An image that was built."""

    record: ImageRecord
    #: as far as they are there, the base first
    layers: tuple[Layer, ...]
    #: bytes of layers that no other image has, and of the others
    own: int
    shared: int

    @property
    def short(self) -> str:
        """Beginning of its key."""
        return self.record.key[:SHORT]

    @property
    def is_complete(self) -> bool:
        """Whether all its layers are there."""
        return len(self.layers) == len(self.record.layers)

    @property
    def top(self) -> str:
        """Key of its top layer."""
        return self.record.top


class Inventory:
    """What there is, when it was looked at."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.layers: Mapping[str, Layer] = {layer.key: layer for layer in store.layers}
        self.broken = list(store.broken)
        records = list(store.records)
        #: in how many images a layer is
        self.times = Counter(key for record in records for key in record.layers)
        #: the last used first
        self.images = [self._kept(record) for record in records]

    def _kept(self, record: ImageRecord) -> Kept:
        layers = [self.layers[key] for key in record.layers if key in self.layers]
        own = sum(self.sizes[layer.key] for layer in layers if self.times[layer.key] == 1)
        return Kept(
            record=record,
            layers=tuple(layers),
            own=own,
            shared=sum(self.sizes[layer.key] for layer in layers) - own,
        )

    @cached_property
    def sizes(self) -> Mapping[str, int]:
        """Bytes on disk of each layer, with what is kept beside its files."""
        return {key: bytes_of(layer) for key, layer in self.layers.items()}

    @property
    def unnamed(self) -> list[Layer]:
        """Layers that are in no image, and below no broken build."""
        below = {key for build in self.broken for key in build.layers}
        return [
            layer for key, layer in self.layers.items() if not self.times[key] and key not in below
        ]

    def find(self, name: str) -> list[Kept]:
        """Images that a person may mean: by name or tag, else by the beginning of a key."""
        for matches in (
            [kept for kept in self.images if name in (kept.record.name, kept.record.tag)],
            [kept for kept in self.images if kept.record.key.startswith(name)],
            [kept for kept in self.images if kept.top.startswith(name)],
        ):
            if matches:
                return matches
        return []

    def find_broken(self, name: str) -> BrokenBuild | None:
        """The broken build that a person may mean."""
        for build in self.broken:
            if name in (build.name, build.image):
                return build
        return None


def bytes_of(layer: Layer) -> int:
    """Bytes of a layer on disk, with what is kept beside its files."""
    return layer.meta.size + bytes_on_disk(layer.path)
