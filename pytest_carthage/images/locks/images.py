"""The images of a layout, by the names that its lock knows them by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_carthage.model.image import Image
    from pytest_carthage.planning.declaration import Declaration
    from pytest_carthage.planning.plan import Plan

__all__ = ["images_of"]


def images_of(layout: type[Declaration], plan: Plan) -> dict[str, Image]:
    """All images that a layout declares or that its machines start from, by name.

    Those that it declares have the name of their attribute; one that a machine's roles add
    packages to is called ``NAME for MACHINE, ...``.
    """
    declared = layout.images()
    images = dict(declared)
    by_key = {image.key: name for name, image in declared.items()}
    users: dict[str, list[str]] = {}
    for machine in plan.machines.values():
        if machine.image is not None and machine.image.key in plan.images:
            users.setdefault(machine.image.key, []).append(machine.name)
    for key, image in plan.images.items():
        if key not in by_key:
            own = _name_of_origin(layout, users.get(key, ()), declared) or image.name
            images[f"{own} for {', '.join(users.get(key, ()))}"] = image
    return images


def _name_of_origin(
    layout: type[Declaration], machines: Sequence[str], declared: Mapping[str, Image]
) -> str | None:
    """The attribute that the image of machines was made from."""
    every = layout.machines()
    for machine in machines:
        origin = every[machine].image if machine in every else None
        for name, image in declared.items():
            if origin is not None and image == origin:
                return name
    return None
