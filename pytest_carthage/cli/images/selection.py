"""From what a person typed to an image."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_carthage import clock
from pytest_carthage.cli.output import count
from pytest_carthage.cli.usage import Usage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_carthage.store.inventory import Inventory, Kept

__all__ = ["NAME", "absent", "inventory", "select", "several"]

#: what a person may type, in help texts
NAME = "an image's name, its tag, or the beginning of its key"
_HINT = "see `pytest-carthage images ls`, or build one: pytest-carthage images build PATH.py:Class"


def inventory() -> Inventory:
    """All that this user has on this host."""
    from pytest_carthage.store.inventory import Inventory
    from pytest_carthage.store.root import Store

    return Inventory(Store())


def select(inventory: Inventory, name: str) -> Kept:
    """The image that is meant.

    :raises Usage: there is none, or there are several.
    """
    matches = inventory.find(name)
    if len(matches) == 1:
        return matches[0]
    if matches:
        raise Usage(several(name, matches))
    raise Usage(absent(inventory, name))


def several(name: str, matches: Sequence[Kept]) -> str:
    """What to tell where more than one may be meant."""
    from pytest_carthage.report.kept import age

    now_s = clock.unix_s()
    rows = [
        f"  {kept.short}  {kept.record.name}, {count(len(kept.record.layers), 'layer')}, "
        f"used {age(now_s - kept.record.used_at)} ago"
        for kept in matches
    ]
    return "\n".join([f"image {name!r}: which one? say its key:", *rows])


def absent(inventory: Inventory, name: str, *, with_broken: bool = False) -> str:
    """What to tell where there is none of that name.

    :param with_broken: a broken build could have been meant, too.
    """
    names = list(dict.fromkeys(kept.record.name for kept in inventory.images))
    if with_broken:
        names += [f"{build.name} (broken)" for build in inventory.broken]
    if not names:
        return f"image {name!r}: no image was built here; {_HINT}"
    return f"there is no image {name!r}; there are: {', '.join(names)}"
