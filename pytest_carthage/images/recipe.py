"""What of an image exists already, and why the rest does not: nothing is built or changed here."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_carthage.errors import BuildError
from pytest_carthage.model.keys.inputs import changed, near
from pytest_carthage.model.keys.key import digest

if TYPE_CHECKING:
    from pytest_carthage.model.image import Image
    from pytest_carthage.model.task import Step
    from pytest_carthage.store.layer import Layer
    from pytest_carthage.store.records import ImageRecord
    from pytest_carthage.store.root import Store

__all__ = ["Wanted", "base_inputs", "base_key", "find_step", "look", "step_key"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """One layer that an image wants."""

    title: str
    #: None: the base
    step: Step | None
    #: None: it is to be made
    layer: Layer | None
    #: why it is to be made; empty where it is not
    why: str = ""
    #: what it took the last time (seconds); None: it never was made
    expected_s: float | None = None


async def base_inputs(image: Image, store: Store, *, offline: bool = False) -> dict[str, str]:
    """What a base is made of now; paths near the declaration are told from there.

    :param offline: what a base was made of may be missing where the base itself is there, as it
        is after ``unbundle``.
    :raises BuildError: it is not there, or cannot be read.
    """
    from pytest_carthage.images.bases import making

    try:
        inputs = await making.base_inputs(image)
    except BuildError:
        if offline:
            for outcome in store.outcomes.of(image.base_key):
                if store.layers.get(outcome.layer) is not None:
                    return dict(outcome.inputs)
        raise
    if image.anchor is None:
        return inputs
    return {near(Path(name), image.anchor): value for name, value in inputs.items()}


def base_key(image: Image, inputs: Mapping[str, str]) -> str:
    """Key of a base layer."""
    return digest(["base", image.base_key, sorted(inputs.items())])


def declared_key(step: Step, below: str) -> str:
    """Key of what is declared for a step, on a layer."""
    return digest(["step", below, step.key])


def step_key(declared: str, inputs: Mapping[str, str]) -> str:
    """Key of the layer that a step has made of these inputs."""
    return digest(["layer", declared, sorted(inputs.items())])


def find_step(store: Store, step: Step, declared: str) -> tuple[Layer | None, list[str]]:
    """The layer that a step would make now; or none, and which inputs have changed since."""
    differ: list[str] = []
    for number, outcome in enumerate(store.outcomes.of(declared)):
        now = changed(outcome.inputs, step.anchor, _Programs())
        if not now:
            layer = store.layers.get(outcome.layer)
            if layer is not None:
                return layer, []
        elif number == 0:
            differ = now
    return None, differ


class _Programs(dict[str, str]):
    """Versions of programs of the host, found when they are asked for."""

    def get(self, name: str, default: str = "") -> str:  # type: ignore[override]
        """The version of a program."""
        from pytest_carthage.work.ansible.installation import program_version

        return program_version() if name == "ansible-core" else default


async def look(image: Image, store: Store, *, offline: bool = False) -> list[Wanted]:
    """All layers that an image wants, the base first, as far as they exist.

    :param offline: see :func:`base_inputs`.
    :raises BuildError: what its base is made of is not there.
    """
    inputs = await base_inputs(image, store, offline=offline)
    return await asyncio.to_thread(_look, image, store, inputs)


def _look(image: Image, store: Store, inputs: Mapping[str, str]) -> list[Wanted]:
    before = _last_time(image, store)
    base = store.layers.get(base_key(image, inputs))
    wants = [
        Wanted(
            title=f"base {image.origin}",
            step=None,
            layer=base,
            why="" if base else _why_base(image, before, inputs),
            expected_s=_took(before, "base", "", store) if before else None,
        )
    ]
    below = base
    for number, step in enumerate(image.steps, 1):
        layer: Layer | None = None
        why = "a layer below it changes" if before else "never built"
        if below is not None:
            layer, differ = find_step(store, step, declared_key(step, below.key))
            why = "" if layer else _why_step(step, number, below, before, differ)
        expected = None if layer else _took(before, step.kind, step.title, store)
        wants.append(Wanted(title=step.title, step=step, layer=layer, why=why, expected_s=expected))
        below = layer
    return wants


def _last_time(image: Image, store: Store) -> Sequence[Layer]:
    """Layers of the last image of this name, as far as they are there."""

    def layers(record: ImageRecord) -> list[Layer]:
        return [layer for key in record.layers if (layer := store.layers.get(key)) is not None]

    for record in store.records:
        if record.name == image.name:
            return layers(record)
    return ()


def _why_base(image: Image, before: Sequence[Layer], inputs: Mapping[str, str]) -> str:
    old = next((layer for layer in before if layer.meta.kind == "base"), None)
    if old is None:
        return "never built"
    differ = [name for name, value in inputs.items() if old.meta.inputs.get(name) != value]
    return f"changed: {', '.join(differ)}" if differ else "its declaration changed"


def _why_step(
    step: Step, number: int, below: Layer, before: Sequence[Layer], differ: Sequence[str]
) -> str:
    if differ:
        return f"changed: {', '.join(str(Path(name)) for name in differ)}"
    same = [layer for layer in before if layer.meta.title == step.title]
    if not same:
        return "never built" if not before else "new in this image"
    if any(layer.meta.parent == below.key for layer in same):
        return "its declaration changed"
    return "a layer below it changed"


def _took(before: Sequence[Layer], kind: str, title: str, store: Store) -> float | None:
    """Seconds that such a layer took the last time."""
    for layers in (before, store.layers if kind != "base" else ()):
        for layer in layers:
            if layer.meta.kind == kind and (kind == "base" or layer.meta.title == title):
                return layer.meta.seconds
    return None
