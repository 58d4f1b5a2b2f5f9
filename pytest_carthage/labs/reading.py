"""A lab of any kind, by what its files look like."""

from __future__ import annotations

from pathlib import Path

from pytest_carthage.errors import LayoutError
from pytest_carthage.labs.compose import read_compose
from pytest_carthage.labs.containerlab import read_containerlab
from pytest_carthage.labs.documents import read
from pytest_carthage.labs.kathara import read_kathara
from pytest_carthage.labs.lab import Images, Lab

__all__ = ["read_lab"]


def read_lab(
    path: Path,
    *,
    images: Images,
    reserved: frozenset[str],
    on: str | None = "podman",
    near: Path | None = None,
) -> Lab:
    """Read a lab's folder or file.

    :param on: target of the services of compose.
    :param near: folder that relative paths are of; by default the lab's own.
    :raises LayoutError: it is no lab, or something in it is wrong.
    """
    if path.is_dir() or path.name == "lab.conf":
        folder = path if path.is_dir() else path.parent
        return read_kathara(folder, images=images, reserved=reserved, near=near)
    values = read(path, [], variables={}).values
    if "topology" in values:
        return read_containerlab(path, images=images, reserved=reserved, near=near)
    if "services" in values:
        return read_compose(path, images=images, reserved=reserved, on=on, near=near)
    raise LayoutError(
        f"lab {path}: it has neither a topology (containerlab) nor services (compose); try: one of "
        "these files, or the folder of a lab.conf (Kathará)"
    )
