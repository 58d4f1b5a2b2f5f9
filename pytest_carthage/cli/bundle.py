"""``pytest-carthage bundle LAYOUT -o FILE``: pack all that a suite needs where no network is."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_carthage.cli import reference
from pytest_carthage.cli.lock import locked
from pytest_carthage.cli.output import count, size
from pytest_carthage.cli.policy import folder_of
from pytest_carthage.cli.usage import Usage

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_carthage.images.bundles.manifest import Manifest
    from pytest_carthage.images.bundles.suite import Suite
    from pytest_carthage.images.locks.lock import Lock
    from pytest_carthage.store.built import Built


def add(commands: Any) -> None:
    """Add the command."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "bundle",
        help="pack a layout's images, lock and tests into one file",
        description="Build what is missing of a layout's images, and pack them, the lock and the "
        "folder of the layout's file (the tests) into one tar. `pytest-carthage unbundle` makes "
        "the whole suite run on a host without any network. Where there is a carthage.lock, the "
        "images must be as it says.",
    )
    reference.add_layout(parser)
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        required=True,
        metavar="FILE",
        help="FILE.tar, or .tar.gz, .tar.zst, .tar.xz, which take longer",
    )
    parser.add_argument(
        "--suite",
        type=Path,
        metavar="DIR",
        help="folder of the tests (default: that of the layout's file)",
    )
    parser.add_argument(
        "--image",
        action="append",
        default=[],
        metavar="NAME",
        help="an image that was built (images ls) and that the layout does not declare, as one "
        "that a stage puts together; may be given several times",
    )
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Build, and pack."""
    from pytest_carthage.images.bundles.compression import compressor
    from pytest_carthage.images.bundles.writing import write
    from pytest_carthage.images.locks.finding import find
    from pytest_carthage.images.locks.lock import NAME

    layout = reference.layout(arguments.layout)
    plan = reference.planned(arguments.layout, arguments.target)
    compressor(arguments.output)
    if arguments.suite is None and ".py" not in arguments.layout:
        raise Usage(f"{arguments.layout} is in no folder of tests; try: --suite DIR, with yours")
    root = (arguments.suite or folder_of(arguments.layout, layout)).absolute()
    if not root.is_dir():
        raise Usage(f"--suite {arguments.suite}: there is no such folder")
    more = [_built(name) for name in arguments.image]
    path = root / NAME
    kept = find(layout, [], folder=root, places=[root]) if path.exists() else None
    written: list[tuple[Manifest, Suite]] = []

    async def pack(lock: Lock, built: dict[str, Built], note: Callable[[str, str], None]) -> None:
        written.append(
            await write(
                arguments.output,
                layout,
                plan,
                kept or lock,
                built,
                root,
                more=more,
                note=lambda text: note("", text),
            )
        )

    locked(layout, plan, path, quiet=arguments.quiet, like=kept, then=pack)
    ((manifest, suite),) = written
    for outside in suite.outside:
        print(f"not in it: {outside}, which a task reads; the other host must have the same")
    members = manifest.members.values()
    files = sum(member.kind == "file" for member in members) - 2 * len(manifest.layers)
    packed = f"{count(len(manifest.images), 'image')} of {count(len(manifest.layers), 'layer')}"
    weight = size(arguments.output.stat().st_size)
    print(f"{arguments.output}: {weight}: {packed}, {count(files, 'file')} of tests")
    print(f"on the other host:  pytest-carthage unbundle {arguments.output.name}")
    return 0


def _built(name: str) -> Built:
    """An image that was built before, the last one of its name."""
    from pytest_carthage.store.built import recall
    from pytest_carthage.store.inventory import Inventory
    from pytest_carthage.store.root import Store

    store = Store()
    built = Inventory(store).find(name)
    if not built:
        raise Usage(f"--image {name}: no such image was built; see: pytest-carthage images ls")
    return recall(store, built[0].record)
