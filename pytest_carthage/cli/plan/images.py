"""Images of a layout, layer by layer: what is there, what is to do and why."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_carthage.cli.plan.times import Expected, about, columns
from pytest_carthage.errors import CarthageError

if TYPE_CHECKING:
    from pytest_carthage.images.recipe import Wanted
    from pytest_carthage.model.image import Image

__all__ = ["ImageForecast", "expected", "lines", "look"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageForecast:
    """An image, layer by layer."""

    image: Image
    layers: Sequence[Wanted]
    #: why its layers could not be looked at; empty: they were
    problem: str = ""

    @property
    def expected(self) -> Mapping[tuple[str, ...], float | None]:
        """Times by what is to be made, with all that it stands on."""
        if self.problem:
            return {(self.image.key,): None}
        keys = [self.image.base_key, *(step.key for step in self.image.steps)]
        return {
            tuple(keys[:number]): layer.expected_s
            for number, layer in enumerate(self.layers, 1)
            if layer.layer is None
        }

    def record(self) -> dict[str, Any]:
        """It in plain values, for programs."""
        return {
            "name": self.image.name,
            "key": self.image.key,
            "tag": self.image.tag,
            "problem": self.problem or None,
            "layers": [
                {
                    "title": layer.title,
                    "state": "cached" if layer.layer is not None else "to do",
                    "key": layer.layer.key if layer.layer is not None else None,
                    "why": layer.why or None,
                    "expected_s": None if layer.layer is not None else layer.expected_s,
                }
                for layer in self.layers
            ],
        }

    def lines(self) -> Iterator[str]:
        """It for a person."""
        name = self.image.name
        if self.problem:
            yield f"  {name}: {self.problem}"
            return
        missing = sum(layer.layer is None for layer in self.layers)
        state = f"{missing} of {len(self.layers)} layers to do" if missing else "is there"
        yield f"  {name}: {state}"
        yield from columns([(layer.title, _state(layer)) for layer in self.layers])


def _state(layer: Wanted) -> str:
    if layer.layer is not None:
        return "cached"
    return f"to do: {layer.why}{about(layer.expected_s)}"


async def look(images: Sequence[Image]) -> list[ImageForecast]:
    """Look what of images is there; nothing is created or fetched."""
    from pytest_carthage.images import recipe
    from pytest_carthage.store.root import Store

    store = Store()

    async def look_at(image: Image) -> ImageForecast:
        try:
            return ImageForecast(image=image, layers=await recipe.look(image, store))
        except (CarthageError, OSError) as error:
            return ImageForecast(image=image, layers=(), problem=str(error))

    return list(await asyncio.gather(*map(look_at, images)))


def expected(images: Sequence[ImageForecast]) -> Expected:
    """Images are made at once, what they have in common just once."""
    never_timed = {
        key for image in images for key, time_s in image.expected.items() if time_s is None
    }
    longest = Expected.longest(Expected.of(image.expected.values()) for image in images)
    return Expected(seconds=longest.seconds, unknown=len(never_timed))


def lines(images: Sequence[ImageForecast]) -> Iterator[str]:
    """Write images for a person; nothing where there are none."""
    if images:
        yield "\nimages"
        for image in images:
            yield from image.lines()
