"""Images that exist: just built, or recalled from what is remembered of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from pytest_carthage.errors import BuildError
from pytest_carthage.model.image import Image, ImageConfig
from pytest_carthage.model.mistakes.place import Place
from pytest_carthage.store.layer import Layer
from pytest_carthage.store.records import ImageRecord, config_of
from pytest_carthage.store.root import Store

__all__ = ["SHORT", "Built", "recall"]

#: digits of a key that people read
SHORT = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """An image that exists."""

    image: Image
    #: the base first
    layers: tuple[Layer, ...]
    #: of the base and of the image together
    config: ImageConfig
    store: Store

    @property
    def who(self) -> str:
        """How messages about it begin."""
        return f"image {self.image.name!r}"

    @property
    def lower(self) -> tuple[Path, ...]:
        """Trees of the layers as overlayfs takes them: the top first."""
        return tuple(layer.tree for layer in reversed(self.layers))

    @property
    def packages(self) -> Mapping[str, str]:
        """Name to version of the packages that are there; empty: not known."""
        for layer in reversed(self.layers):
            if layer.meta.packages is not None:
                return layer.meta.packages
        return {}

    def record(self, now: float) -> ImageRecord:
        """What is to be remembered of it, as of a time (seconds since the epoch)."""
        return ImageRecord(
            key=self.image.key,
            name=self.image.name,
            tag=self.image.tag,
            layers=tuple(layer.key for layer in self.layers),
            built_at=now,
            used_at=now,
            config=asdict(self.config),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Remembered(Image):
    """An image of which its name and result are known, and not how it was declared."""

    recorded: str = ""

    @property
    def key(self) -> str:
        return self.recorded


def recall(store: Store, record: ImageRecord) -> Built:
    """A built image, held by the store; what its declaration was is not known.

    :raises BuildError: it is no longer there.
    """
    layers = store.layers.chain(record.top) if record.top and store.hold(record.top) else None
    if layers is None:
        raise BuildError(
            f"image {record.name!r} ({record.key[:SHORT]}): some of its layers are gone "
            "or damaged; try: pytest-carthage images check, pytest-carthage images build"
        )
    config = config_of(record.config or layers[0].meta.config)
    image = _Remembered(
        kind="rootfs",
        name=record.name,
        tag=record.tag,
        config=config,
        recorded=record.key,
        place=Place(file="", line=0),
    )
    return Built(image=image, layers=layers, config=config, store=store)
