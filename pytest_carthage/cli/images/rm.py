"""``pytest-carthage images rm``: remove images and broken builds."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from pytest_carthage.cli.images.removal import row
from pytest_carthage.cli.images.selection import NAME, absent, inventory, several
from pytest_carthage.cli.output import add_json, count, print_json, size
from pytest_carthage.cli.usage import Usage
from pytest_carthage.errors import CarthageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pytest_carthage.store.broken import BrokenBuild
    from pytest_carthage.store.inventory import Inventory, Kept
    from pytest_carthage.store.removed import Removed
    from pytest_carthage.store.root import Store
    from pytest_carthage.store.users import User

__all__ = ["add", "run"]


def add(verbs: Any) -> None:
    """Add the verb."""
    parser: argparse.ArgumentParser = verbs.add_parser(
        "rm",
        help="remove images",
        description="Remove images and broken builds, with the layers that no other image needs. "
        "One that somebody uses is refused.",
    )
    parser.add_argument(
        "names", metavar="NAME", nargs="+", help=f"{NAME}; or a broken build's name"
    )
    add_json(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Remove them; all are looked up before the first one goes."""
    from pytest_carthage.store import garbage
    from pytest_carthage.store.users import users_of

    all_there_is = inventory()
    store = all_there_is.store
    images, broken = _named(all_there_is, dict.fromkeys(arguments.names))
    for kept in images:
        if users := users_of(store, kept.top):
            raise CarthageError(_in_use(kept, users))
    removed: list[Removed] = []
    for build in broken:
        gone = garbage.remove_broken(store, build)
        if gone is None:
            raise CarthageError(f"broken build {build.name!r}: somebody looks into it just now")
        removed.append(gone)
        if not arguments.json:
            print(f"removed broken build {gone.name} ({size(gone.size)})")
    for kept in images:
        removed += _remove(store, kept, quiet=arguments.json)
    if arguments.json:
        print_json([row(gone) for gone in removed])
    return 0


def _named(inventory: Inventory, names: Iterable[str]) -> tuple[list[Kept], list[BrokenBuild]]:
    """The images and broken builds that are meant.

    :raises Usage: there is none of a name, or there are several images.
    """
    images: list[Kept] = []
    broken: list[BrokenBuild] = []
    for name in names:
        build = inventory.find_broken(name)
        matches = inventory.find(name)
        if len(matches) > 1:
            raise Usage(several(name, matches))
        if not matches and build is None:
            raise Usage(absent(inventory, name, with_broken=True))
        images += matches
        broken += [build] if build is not None else []
    return images, broken


def _remove(store: Store, kept: Kept, *, quiet: bool) -> list[Removed]:
    from pytest_carthage.store import garbage
    from pytest_carthage.store.inventory import Inventory
    from pytest_carthage.store.users import users_of

    if not store.forget(kept.record):
        raise CarthageError(_in_use(kept, users_of(store, kept.top)))
    others = Inventory(store).images
    needed = {key for other in others for key in other.record.layers}
    needed |= {key for build in store.broken for key in build.layers}
    own = [key for key in reversed(kept.record.layers) if key not in needed]
    removed = garbage.remove_disks(store, kept.top) if kept.top in own else []
    disks = len(removed)
    removed += garbage.remove_layers(store, own)
    if not quiet:
        freed = size(sum(gone.size for gone in removed))
        line = f"removed {kept.record.name} ({kept.short}): "
        line += f"{count(len(removed) - disks, 'layer')}, "
        line += f"{count(disks, 'disk')}, {freed}" if disks else freed
        stay = {layer.key for layer in kept.layers if layer.key in store.layers}
        if stay:
            names = sorted(
                {other.record.name for other in others if stay & set(other.record.layers)}
            )
            verb = "stays" if len(stay) == 1 else "stay"
            why = f"for {', '.join(names)}" if names else "below others"
            line += f"; {count(len(stay), 'layer')} {verb} {why}"
        print(line)
    return removed


def _in_use(kept: Kept, users: Sequence[User]) -> str:
    """Say who uses an image, and how that is ended."""
    from pytest_carthage.state.listing import list_environments

    by_pid = {live.description.get("pid"): live.name for live in list_environments()}
    names = [by_pid[user.pid] for user in users if user.pid in by_pid]
    listed = [f"environment {name}" for name in names]
    listed += [str(user) for user in users if user.pid not in by_pid]
    remedy = f"pytest-carthage rm {' '.join(names)}" if names else "when that has ended"
    return (
        f"image {kept.record.name!r} ({kept.short}) is in use by "
        f"{', '.join(listed) or 'somebody'}; try: {remedy}"
    )
