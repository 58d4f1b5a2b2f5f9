"""Making something of an image, with progress in sight."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_carthage.cli.images.selection import inventory, select

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from pytest_carthage.store.built import Built

    #: makes something of an image, and tells how far it is
    Make = Callable[[Built, Callable[[str], None]], Coroutine[Any, Any, None]]

__all__ = ["make_of"]


def make_of(name: str, doing: str, make: Make, *, quiet: bool) -> None:
    """Make something of the image that a person means, with progress.

    :param doing: begins the subject, as in "save NAME".
    """
    from pytest_carthage.cli.progress import showing
    from pytest_carthage.events import Work
    from pytest_carthage.portal import Portal
    from pytest_carthage.store.built import recall

    all_there_is = inventory()
    built = recall(all_there_is.store, select(all_there_is, name).record)
    portal = Portal()
    try:
        with (
            showing(quiet=quiet) as reporter,
            Work(reporter, f"{doing} {built.image.name}") as subject,
        ):
            portal.call(make, built, subject.note)
    finally:
        portal.close()
