"""A layout class, or an image, that a person names on the command line."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_carthage.cli.usage import Usage

if TYPE_CHECKING:
    from types import ModuleType

    from pytest_carthage.live.layout import Layout
    from pytest_carthage.model.image import Image
    from pytest_carthage.planning.plan import Plan
    from pytest_carthage.providing import Providers

__all__ = ["add_layout", "images", "is_image", "layout", "module", "planned", "providers"]


def add_layout(parser: argparse.ArgumentParser) -> None:
    """Add the argument LAYOUT and the option ``--target``."""
    parser.add_argument(
        "layout",
        metavar="LAYOUT",
        help="PATH.py:Class, dotted.name.Class, or the name of a registered layout",
    )
    parser.add_argument(
        "--target", metavar="TARGET", help="where machines run that do not say so themselves"
    )


def layout(text: str) -> type[Layout]:
    """Find the layout that is meant.

    :raises pytest_carthage.errors.LayoutError: there is none; says what there is.
    """
    from pytest_carthage.reference import layouts

    return layouts.find(text, registered=layouts.of_distributions(), folder=Path.cwd())


def providers() -> Providers:
    """All targets that installed distributions offer."""
    from pytest_carthage.provider import load_providers
    from pytest_carthage.providing import Providers

    return Providers(load_providers())


def planned(text: str, target: str | None) -> Plan:
    """Find and plan a layout.

    :raises pytest_carthage.errors.LayoutError: it is unknown, or wrong.
    """
    from pytest_carthage.planning import make_plan

    return make_plan(layout(text), target=target, targets=providers().traits)


def module(text: str) -> ModuleType:
    """The module in which what is meant was found: for a path, that file.

    :raises pytest_carthage.errors.LayoutError: there is none.
    """
    path = _file(text)
    if path is not None:
        from pytest_carthage.reference import layouts

        return layouts.load_file(path)
    return sys.modules[layout(text).__module__]


def images(text: str, target: str | None) -> list[Image]:
    """Images of a layout, or the one that a module calls so.

    :raises Usage: there is none; says what there is.
    :raises pytest_carthage.errors.LayoutError: the layout is unknown, or an image is wrong.
    """
    path = _file(text)
    name = text.rpartition(":")[2] if ":" in text else ""
    if path is not None and name:
        imported = module(text)
        value = getattr(imported, name, None)
        image = _image_in(value)
        if image is not None:
            for mistake in image.mistakes:
                raise mistake.error(f"image {image.name!r}")
            return [image.called(name)]
        if value is None:
            there = [key for key, other in vars(imported).items() if _image_in(other) is not None]
            raise Usage(
                f"{text}: {path} has no {name!r}; its images are: {', '.join(there) or 'none'}; "
                f"its layouts are: {', '.join(_layouts(imported)) or 'none'}"
            )
    from pytest_carthage.planning.images import images_of

    cls = layout(text)
    every = list(images_of(planned(text, target)).values())
    if not every:
        raise Usage(f"layout {cls.__name__!r} has no images: there is nothing to build")
    return every


def is_image(text: str) -> bool:
    """Whether an image of a module is meant, and not a layout."""
    name = text.rpartition(":")[2] if ":" in text else ""
    return bool(name and _file(text)) and _image_in(getattr(module(text), name, None)) is not None


def _image_in(value: object) -> Image | None:
    """The image that a value is, or is the fixture of."""
    from pytest_carthage.model.image import ATTRIBUTE, Image

    image = value if isinstance(value, Image) else getattr(value, ATTRIBUTE, None)
    return image if isinstance(image, Image) else None


def _layouts(imported: ModuleType) -> list[str]:
    from pytest_carthage.live.layout import Layout

    return [
        key
        for key, value in vars(imported).items()
        if isinstance(value, type) and issubclass(value, Layout) and value is not Layout
    ]


def _file(text: str) -> Path | None:
    """The file that is named, with what is in it or without; None: it is no path."""
    path, colon, _ = text.rpartition(":")
    if not colon:
        path = text
    full = (Path.cwd() / path).resolve()
    return full if path.endswith(".py") and full.is_file() else None
