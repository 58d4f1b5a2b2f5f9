"""``pytest-carthage images check``: look whether what is kept is what was recorded of it."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from pytest_carthage.cli.output import add_json, count, print_json

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pytest_carthage.store.checking import Damage
    from pytest_carthage.store.root import Store

__all__ = ["add", "run"]


def add(verbs: Any) -> None:
    """Add the verb."""
    parser: argparse.ArgumentParser = verbs.add_parser(
        "check",
        help="look for damaged layers",
        description="Compare what is in the store with what was recorded of it: of each layer "
        "what it says of itself, and its files' names, sizes, owners, permissions, times and "
        "attributes. The exit status is 1 where something is damaged, and was not put away.",
    )
    parser.add_argument(
        "--deep",
        action="store_true",
        help="read all files, too; contents are compared with those of the first reading, by "
        "this command, a bundle or an export",
    )
    parser.add_argument(
        "--repair",
        action="store_true",
        help="set damaged layers aside, so that the next build makes them anew; machines that "
        "stand on one keep it, and `images gc` removes it when no image is in use",
    )
    add_json(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Look."""
    from pytest_carthage.store.checking import repair
    from pytest_carthage.store.root import Store

    store = Store()
    store.prepare()
    rows: list[tuple[Damage, Path | None]] = []
    for damage in _damages(store, deep=arguments.deep):
        aside = repair(store, damage) if arguments.repair else None
        rows.append((damage, aside))
        if not arguments.json:
            _print(damage, aside, repaired=arguments.repair)
    if arguments.json:
        print_json([_row(damage, aside) for damage, aside in rows])
    elif not rows:
        print(f"{count(len(list(store.layers)), 'layer')} in {store.root}: all as recorded")
    elif not arguments.repair:
        print("try: pytest-carthage images check --repair, and then the build again")
    return 1 if rows and not arguments.repair else 0


def _damages(store: Store, *, deep: bool) -> Iterator[Damage]:
    import asyncio

    from pytest_carthage.images.contents import changed
    from pytest_carthage.store.checking import damages, of_layer

    damaged = set()
    for damage in damages(store):
        damaged.add(damage.path)
        yield damage
    for layer in store.layers if deep else ():
        if layer.path not in damaged and (text := asyncio.run(changed(layer))):
            yield of_layer(store, layer.key, text)


def _print(damage: Damage, aside: Path | None, *, repaired: bool) -> None:
    images = f"; in {', '.join(damage.images)}" if damage.images else ""
    print(f"damaged {damage.kind}: {damage.name}: {damage.text}{images}")
    if aside is not None:
        print(f"  set aside as {aside}; the next build makes it anew")
    elif repaired:
        print("  removed; the next build makes it anew")


def _row(damage: Damage, aside: Path | None) -> dict[str, Any]:
    return {
        "kind": damage.kind,
        "key": damage.key,
        "text": damage.text,
        "images": list(damage.images),
        "path": str(damage.path),
        "set_aside": None if aside is None else str(aside),
    }
