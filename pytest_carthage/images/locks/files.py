"""Files of the host that images were made from, by names that mean the same on another host."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_carthage.model.keys.inputs import near, program_of

if TYPE_CHECKING:
    from pytest_carthage.store.built import Built

__all__ = ["files_read", "hashes_read", "located", "named", "package_of"]


def named(path: Path, folder: Path) -> str:
    """A file's name in a lock: from its folder where it is near, or from an installed package."""
    full = _absolute(path)
    name = near(full, folder)
    if not Path(name).is_absolute():
        return name
    package = package_of(full)
    if package is not None and _folder_of(package.name) == package:
        return f"{package.name}:{full.relative_to(package)}"
    return name


def located(name: str, folder: Path) -> Path:
    """Where a file of a lock is now."""
    package, colon, rest = name.partition(":")
    if colon and package.isidentifier():
        place = _folder_of(package)
        if place is not None:
            return place / rest
    return folder / name


def hashes_read(built: Built) -> Iterator[tuple[Path, str]]:
    """Files of the host that an image's tasks have read, with the hashes of what they were."""
    for step, layer in zip(built.image.steps, built.layers[1:], strict=True):
        for name, content in layer.meta.inputs.items():
            if content and program_of(name) is None:  # without: it was looked for, and not there
                yield step.anchor / name, content


def files_read(built: Built) -> list[Path]:
    """Absolute paths of files and folders of the host that an image was made from."""
    image = built.image
    paths = [path for path, _ in hashes_read(built)]
    paths += [path for path in (image.path, image.context) if path is not None]
    return [_absolute(path) for path in paths]


def package_of(path: Path) -> Path | None:
    """Folder of the outermost Python package that a file is in."""
    package = next((folder for folder in path.parents if (folder / "__init__.py").exists()), None)
    while package is not None and (package.parent / "__init__.py").exists():
        package = package.parent
    return package


def _absolute(path: Path) -> Path:
    return Path(os.path.abspath(path))  # noqa: PTH100  links are not followed


def _folder_of(package: str) -> Path | None:
    """Folder of a package that can be imported."""
    from importlib.util import find_spec

    try:
        spec = find_spec(package)
    except (ImportError, ValueError):
        return None
    places = list(spec.submodule_search_locations or ()) if spec is not None else []
    return Path(places[0]) if places else None
