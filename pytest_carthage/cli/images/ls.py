"""``pytest-carthage images ls``: list images, broken builds, and what is being built."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from pytest_carthage import clock
from pytest_carthage.cli.images.selection import inventory
from pytest_carthage.cli.output import add_json, count, print_json, print_table, size

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_carthage.store.broken import BrokenBuild
    from pytest_carthage.store.disks import KeptDisk
    from pytest_carthage.store.inventory import Inventory, Kept
    from pytest_carthage.store.users import User

__all__ = ["add", "run"]


def add(verbs: Any) -> None:
    """Add the verb."""
    parser: argparse.ArgumentParser = verbs.add_parser(
        "ls",
        help="list images",
        description="List images, the last used first: layers, size (of layers that no other "
        "image has, and of those that others have, too), when built and used, and whether "
        "somebody uses it; then broken builds that were kept, and what is being built.",
    )
    add_json(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """List them."""
    from pytest_carthage.store.built import SHORT
    from pytest_carthage.store.disk import disk_usage
    from pytest_carthage.store.users import building, users_of

    all_there_is = inventory()
    store = all_there_is.store
    users = {kept.top: users_of(store, kept.top) for kept in all_there_is.images if kept.top}
    broken = [(build, disk_usage(build.path)) for build in all_there_is.broken]
    builds = building(store)
    disks = list(store.disks)
    if arguments.json:
        print_json(
            {
                "root": str(store.root),
                "images": [_row(kept, users.get(kept.top, [])) for kept in all_there_is.images],
                "broken": [_broken_row(build, taken) for build, taken in broken],
                "building": [
                    {"key": build.key, "image": build.image, "text": build.text, "pid": build.pid}
                    for build in builds
                ],
                "disks": [_disk_row(disk) for disk in disks],
                "layers": len(all_there_is.layers),
                "bytes": sum(all_there_is.sizes.values()),
                "unnamed": [layer.key for layer in all_there_is.unnamed],
            }
        )
        return 0
    if all_there_is.images:
        _print_images(all_there_is, users)
    else:
        print(f"no image was built in {store.root}")
    if disks:
        total = size(sum(disk.size for disk in disks))
        names = ", ".join(sorted({disk.meta.image for disk in disks}))
        print(f"{count(len(disks), 'disk')}, {total}, of {names}")
    if broken:
        _print_broken(broken)
    if builds:
        print("\nbeing built")
        for build in builds:
            by = f" (process {build.pid})" if build.pid else ""
            print(f"  {build.image or build.key[:SHORT]}: {build.text or 'begun'}{by}")
    return 0


def _print_images(inventory: Inventory, users: Mapping[str, Sequence[User]]) -> None:
    from pytest_carthage.report.kept import age

    now_s = clock.unix_s()
    print_table(
        ("NAME", "TAG", "KEY", "LAYERS", "OWN", "SHARED", "BUILT", "USED", "STATE"),
        [
            (
                kept.record.name,
                kept.record.tag or "-",
                kept.short,
                str(len(kept.record.layers)),
                size(kept.own),
                size(kept.shared),
                f"{age(now_s - kept.record.built_at)} ago",
                f"{age(now_s - kept.record.used_at)} ago",
                _state(kept, users.get(kept.top, [])),
            )
            for kept in inventory.images
        ],
    )
    for kept in inventory.images:
        foreign = [layer.meta.origin for layer in kept.layers if layer.meta.origin]
        if foreign:
            origins = "; ".join(dict.fromkeys(foreign))
            layers = f"{len(foreign)} of {count(len(kept.record.layers), 'layer')}"
            print(f"{kept.record.name}: {layers} built elsewhere: {origins}")
    if damaged := len(inventory.store.layers.damaged()):
        print(f"{count(damaged, 'layer')} damaged; see: pytest-carthage images check")
    total = sum(inventory.sizes.values())
    print(f"{count(len(inventory.layers), 'layer')}, {size(total)}, in {inventory.store.root}")
    unnamed = inventory.unnamed
    if unnamed:
        free = sum(inventory.sizes[layer.key] for layer in unnamed)
        print(
            f"{count(len(unnamed), 'layer')} of these ({size(free)}) in no image; "
            "remove: pytest-carthage images gc"
        )


def _print_broken(broken: Sequence[tuple[BrokenBuild, int]]) -> None:
    from pytest_carthage.report.kept import age

    now_s = clock.unix_s()
    print()
    print_table(
        ("BROKEN BUILD", "IMAGE", "TASK THAT FAILED", "SIZE", "WHEN"),
        [
            (build.name, build.image, build.title, size(taken), f"{age(now_s - build.at)} ago")
            for build, taken in broken
        ],
    )


def _state(kept: Kept, users: Sequence[User]) -> str:
    if not kept.is_complete:
        return "incomplete"
    return f"in use ({len(users)})" if len(users) > 1 else "in use" if users else "unused"


def _row(kept: Kept, users: Sequence[User]) -> dict[str, Any]:
    return {
        "name": kept.record.name,
        "tag": kept.record.tag,
        "key": kept.record.key,
        "layers": list(kept.record.layers),
        "complete": kept.is_complete,
        "own_bytes": kept.own,
        "shared_bytes": kept.shared,
        "built_at": kept.record.built_at,
        "used_at": kept.record.used_at,
        "origins": {layer.key: layer.meta.origin for layer in kept.layers if layer.meta.origin},
        "users": [{"pid": user.pid, "command": user.command} for user in users],
    }


def _disk_row(disk: KeptDisk) -> dict[str, Any]:
    return {
        "key": disk.meta.key,
        "image": disk.meta.image,
        "top": disk.meta.top,
        "kernel": disk.meta.kernel,
        "bytes": disk.size,
        "made_at": disk.meta.made_at,
        "used_at": disk.used_at,
    }


def _broken_row(build: BrokenBuild, taken: int) -> dict[str, Any]:
    return {
        "name": build.name,
        "image": build.image,
        "task": build.title,
        "error": build.error,
        "at": build.at,
        "bytes": taken,
        "layers": list(build.layers),
    }
