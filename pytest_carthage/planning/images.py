"""The images of a layout, by the names that people, plans and locks know them by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_carthage.model.image import Image
    from pytest_carthage.planning.plan import Plan, PlannedMachine

__all__ = ["images_of", "name_images"]


def images_of(plan: Plan) -> dict[str, Image]:
    """All images that a layout declares or that its machines start from, by name.

    Those that it declares have the name of their attribute; one that a machine's roles add
    packages to, or that shares its name with another, is called ``NAME for MACHINE, ...``.
    """
    return {**plan.declared, **{image.name: image for image in plan.images.values()}}


def name_images(
    machines: Mapping[str, PlannedMachine],
    origins: Mapping[str, Image],
    plan: Plan,
) -> tuple[dict[str, PlannedMachine], dict[str, Image]]:
    """Name the images of machines; returns the machines, and all images of the plan by their keys.

    :param origins: machine to the image that it is declared with.
    """
    attributes = {image.key: name for name, image in reversed(list(plan.declared.items()))}
    users: dict[str, list[str]] = {}
    for name, machine in machines.items():
        if machine.image is not None:
            users.setdefault(machine.image.key, []).append(name)
    images = dict(plan.images)
    named = dict(machines)
    for key, names in users.items():
        first = machines[names[0]].image
        if key not in images and first is not None:
            origin = origins[names[0]].key
            label = attributes.get(origin, first.name)
            taken = {*plan.declared, *(image.name for image in images.values())}
            if key != origin or (key not in attributes and label in taken):
                label = attributes.get(key) or f"{label} for {', '.join(names)}"
            images[key] = replace(first, name=label)
        named |= {name: replace(machines[name], image=images[key]) for name in names}
    return named, images
