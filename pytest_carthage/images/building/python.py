"""The Python that is lent to Ansible's modules, in images without one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pytest_carthage.errors import BuildError
from pytest_carthage.fabric import plain_file
from pytest_carthage.handles.lines import lines_of
from pytest_carthage.model.image import Image

if TYPE_CHECKING:
    from pytest_carthage.store.layer import Layer

__all__ = ["lender", "lender_for"]


def lender(suite: str) -> Image:
    """The image whose Python is lent in images of this suite."""
    return Image.debian(suite, packages=["python3", "python3-apt"], name="Python for Ansible")


def lender_for(image: Image, below: Sequence[Layer]) -> Image:
    """The image whose Python goes beneath layers.

    :raises BuildError: they are no Debian.
    """
    fields: dict[str, str] = {}
    for layer in reversed(below):
        path = layer.tree / "usr/lib/os-release"
        if path.is_file():
            text = plain_file.read(path).decode(errors="replace")
            fields = dict(line.split("=", 1) for line in lines_of(text) if "=" in line)
            break
    suite = fields.get("VERSION_CODENAME", "").strip('"')
    if fields.get("ID", "").strip('"') != "debian" or not suite:
        raise BuildError(
            f"image {image.name!r}: it has no Python for Ansible's modules, and only a "
            'Debian can be lent one; try: a task before it with fs.install("python3")'
        )
    return lender(suite)
