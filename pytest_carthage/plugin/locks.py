"""Which lock is meant by ``--carthage-locked``."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_carthage.images import lock as locks

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pytest

    from pytest_carthage.images.lock import Lock
    from pytest_carthage.model.image import Image
    from pytest_carthage.model.layout import Layout

__all__ = ["find_lock", "find_lock_of_image"]


def find_lock(cls: type[Layout], chosen: Sequence[str], request: pytest.FixtureRequest) -> Lock:
    """The lock of a layout: one that was named, or else the nearest.

    That is beside the file that has the layout, in the folder of the tests that use it, or above.

    :raises pytest_carthage.errors.LockError: there is none, it is damaged, or of another layout.
    """
    places = _places(Path(inspect.getfile(cls)), request)
    return locks.find(cls, chosen, folder=request.config.invocation_params.dir, places=places)


def find_lock_of_image(image: Image, chosen: Sequence[str], request: pytest.FixtureRequest) -> Lock:
    """The lock that has an image; it is searched as a layout's.

    :raises pytest_carthage.errors.LockError: none has it.
    """
    places = _places(Path(image.place.file), request)
    folder = request.config.invocation_params.dir
    return locks.find_for_image(image, chosen, folder=folder, places=places)


def _places(file: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    root = request.config.rootpath
    item: Any = getattr(request, "_pyfuncitem", None)
    path: Path | None = getattr(item, "path", None)
    starts = [file.absolute().parent]
    starts += [path.parent] if path is not None else []
    for start in starts:
        yield start
    for start in starts:
        for folder in start.parents:
            if folder.is_relative_to(root):
                yield folder
