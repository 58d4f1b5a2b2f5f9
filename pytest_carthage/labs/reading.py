"""A lab of any kind, by what its files look like."""

from __future__ import annotations

from pathlib import Path

from pytest_carthage.errors import LayoutError
from pytest_carthage.labs.compose import read_compose
from pytest_carthage.labs.containerlab import read_containerlab
from pytest_carthage.labs.documents import read
from pytest_carthage.labs.kathara import read_kathara
from pytest_carthage.labs.lab import Here, Lab

__all__ = ["read_lab"]


def read_lab(path: Path, here: Here, *, on: str | None = "podman") -> Lab:
    """Read a lab's folder or file.

    :param on: target of the services of compose.
    :raises LayoutError: it is no lab, or something in it is wrong.
    """
    if path.is_dir() or path.name == "lab.conf":
        folder = path if path.is_dir() else path.parent
        return read_kathara(folder, here)
    values = read(path, [], variables={}).values
    if "topology" in values:
        return read_containerlab(path, here)
    if "services" in values:
        return read_compose(path, here, on=on)
    raise LayoutError(
        f"lab {path}: it has neither a topology (containerlab) nor services (compose); try: one of "
        "these files, or the folder of a lab.conf (Kathará)"
    )
