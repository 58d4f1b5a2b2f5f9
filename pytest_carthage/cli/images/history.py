"""``pytest-carthage images history``: tell how an image was made."""

from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING, Any

from pytest_carthage.cli.images.selection import NAME, inventory, select
from pytest_carthage.cli.output import add_json, count, print_json, print_table, size

if TYPE_CHECKING:
    from pytest_carthage.store.inventory import Inventory
    from pytest_carthage.store.layer import Layer

__all__ = ["add", "run"]


def add(verbs: Any) -> None:
    """Add the verb."""
    parser: argparse.ArgumentParser = verbs.add_parser(
        "history",
        help="tell how an image was made",
        description="Tell layer by layer, the base first, when it was made, how long that took, "
        "its size, and which files of this host it was made of.",
    )
    parser.add_argument("name", metavar="NAME", help=NAME)
    add_json(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Tell it."""
    from pytest_carthage.store.built import SHORT

    all_there_is = inventory()
    kept = select(all_there_is, arguments.name)
    if arguments.json:
        print_json([_row(layer, all_there_is) for layer in kept.layers])
        return 0
    rows = [
        (
            layer.key[:SHORT],
            time.strftime("%Y-%m-%d %H:%M", time.localtime(layer.meta.made_at)),
            f"{layer.meta.seconds:.1f} s",
            size(all_there_is.sizes[layer.key]),
            layer.meta.role or "-",
            layer.meta.title,
        )
        for layer in kept.layers
    ]
    print_table(("LAYER", "MADE", "TOOK", "SIZE", "ROLE", "TITLE"), rows)
    if missing := len(kept.record.layers) - len(kept.layers):
        print(f"{count(missing, 'layer')} of it gone")
    for layer in kept.layers:
        if layer.meta.origin:
            print(f"\n{layer.meta.title} was built elsewhere: {layer.meta.origin}")
        if layer.meta.inputs:
            print(f"\n{layer.meta.title} was made of")
            for path, digest in sorted(layer.meta.inputs.items()):
                print(f"  {path}  {digest[:SHORT] or 'not there'}")
    return 0


def _row(layer: Layer, inventory: Inventory) -> dict[str, Any]:
    meta = layer.meta
    return {
        "key": layer.key,
        "kind": meta.kind,
        "title": meta.title,
        "role": meta.role,
        "command": meta.command,
        "made_at": meta.made_at,
        "seconds": meta.seconds,
        "bytes": inventory.sizes[layer.key],
        "inputs": dict(meta.inputs),
        "images": inventory.times[layer.key],
        "origin": meta.origin,
        "folder": str(layer.tree),
    }
