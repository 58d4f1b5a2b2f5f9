"""Finding the lock that counts: one that a person named, or the nearest."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_carthage.errors import LockError
from pytest_carthage.images.locks.comparison import refuse_image
from pytest_carthage.images.locks.lock import NAME, Lock

if TYPE_CHECKING:
    from pytest_carthage.model.image import Image
    from pytest_carthage.planning.declaration import Declaration

__all__ = ["find", "find_for_image"]


def find(
    layout: type[Declaration], chosen: Sequence[str], *, folder: Path, places: Iterable[Path]
) -> Lock:
    """The lock of a layout.

    :param chosen: files that a person named; none: it is searched.
    :param folder: where relative ones begin.
    :param places: folders to look in, the nearest first.
    :raises LockError: there is none, it is damaged, or of another layout.
    """
    subject = f"layout {layout.__name__!r}"
    locks = _candidates(subject, chosen, folder, places)
    for lock in locks:
        if lock.layout == layout.__name__:
            return lock
    having = ", ".join(f"{lock.path} of {lock.layout!r}" for lock in locks)
    raise LockError(
        f"{subject}: no lock of it is given, but: {having}; "
        f"try: pytest-carthage lock for {layout.__name__!r} with -o FILE of its own"
    )


def find_for_image(
    image: Image, chosen: Sequence[str], *, folder: Path, places: Iterable[Path]
) -> Lock:
    """The lock that has an image; parameters as of :func:`find`.

    :raises LockError: none has it.
    """
    locks = _candidates(f"image {image.name!r}", chosen, folder, places)
    for lock in locks:
        if lock.of(image) is not None:
            return lock
    refuse_image(locks[0], image)
    return locks[0]


def _candidates(
    who: str, chosen: Sequence[str], folder: Path, places: Iterable[Path]
) -> list[Lock]:
    """The locks that are in question, at least one."""
    if chosen:
        return [Lock.load(folder / name) for name in chosen]
    folders = list(dict.fromkeys(places))
    paths = [place / NAME for place in folders if (place / NAME).is_file()]
    if paths:
        return [Lock.load(paths[0])]
    where = ", ".join(map(str, folders[:1])) + (" or above" if len(folders) > 1 else "")
    raise LockError(
        f"{who}: there is no {NAME} in {where}; try: pytest-carthage lock PATH:Class, "
        "or say where it is"
    )
