"""Making a lock of images that are built."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_carthage.images.locks.digests import base_digest, states, versions_digest
from pytest_carthage.images.locks.files import hashes_read, named
from pytest_carthage.images.locks.lock import Ansible, Lock, LockedImage, LockedLayer
from pytest_carthage.model.keys.inputs import program_of

if TYPE_CHECKING:
    from pytest_carthage.planning.declaration import Declaration
    from pytest_carthage.store.built import Built

__all__ = ["ansible_here", "locked_image", "made_of"]


def made_of(layout: type[Declaration], images: Mapping[str, Built], *, path: Path) -> Lock:
    """Make the lock of a layout's images.

    :param path: where it is to be.
    """
    files: dict[str, str] = {}
    uses_ansible = any(_uses_ansible(stage) for stage in stages_of(layout))
    for built in images.values():
        for file, content in hashes_read(built):
            files[named(file, path.parent)] = content
        uses_ansible = uses_ansible or any(
            program_of(name) for layer in built.layers for name in layer.meta.inputs
        )
    return Lock(
        path=path,
        layout=layout.__name__,
        images={name: locked_image(built) for name, built in images.items()},
        files=files,
        ansible=ansible_here(path.parent) if uses_ansible else None,
    )


def locked_image(built: Built) -> LockedImage:
    """What is to be remembered of an image."""
    steps = ["", *(step.key for step in built.image.steps)]
    layers = []
    for step, layer, packages in zip(steps, built.layers, states(built.layers), strict=True):
        layers.append(
            LockedLayer(
                key=layer.key,
                title=layer.meta.title,
                step=step,
                packages=versions_digest(packages),
            )
        )
    base = built.layers[0]
    return LockedImage(
        declared=built.image.key,
        base=base.meta.command,
        digest=base_digest(base.meta, base.tree),
        layers=tuple(layers),
        packages=built.packages,
    )


def ansible_here(folder: Path) -> Ansible | None:
    """What there is of Ansible, as seen from a folder; None: there is none."""
    from pytest_carthage.work.ansible.installation import collections, program_version

    version = program_version()
    return Ansible(version=version, collections=collections(folder)) if version else None


def stages_of(layout: type[Declaration]) -> list[Any]:
    """Stages that stand beside a layout, or beside one that it is derived from."""
    from pytest_carthage.model.stage import ATTRIBUTE

    modules = (sys.modules.get(cls.__module__) for cls in layout.__mro__)
    stages = {}
    for module in modules:
        for value in list(vars(module).values()) if module is not None else ():
            stage = getattr(value, ATTRIBUTE, None)
            if stage is not None and hasattr(stage, "function"):
                stages[id(stage)] = stage
    return list(stages.values())


def _uses_ansible(stage: Any) -> bool:
    return "ansible" in stage.function.__code__.co_names
