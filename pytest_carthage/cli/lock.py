"""``pytest-carthage lock LAYOUT``: write down what a layout is built from, to the version."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_carthage.cli import reference
from pytest_carthage.cli.output import count
from pytest_carthage.cli.policy import folder_of
from pytest_carthage.cli.progress import showing

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from pytest_carthage.images.locks.lock import Lock
    from pytest_carthage.live.layout import Layout
    from pytest_carthage.planning.plan import Plan
    from pytest_carthage.store.built import Built

    Then = Callable[[Lock, dict[str, Built], Callable[[str, str], None]], Awaitable[None]]

__all__ = ["locked"]


def add(commands: Any) -> None:
    """Add the command."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "lock",
        help="write down what a layout is built from",
        description="Build what is missing of a layout's images, and write carthage.lock: the "
        "digests of their bases, the version of every package, the hashes of the files that "
        "tasks read, Ansible's version and collections. With pytest --carthage-locked, what "
        "would differ from it is not built.",
    )
    reference.add_layout(parser)
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FILE",
        help="default: carthage.lock beside the layout's file",
    )
    parser.add_argument("--offline", action="store_true", help="fetch nothing")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Build, and write it."""
    from pytest_carthage.images.locks.lock import NAME

    layout = reference.layout(arguments.layout)
    plan = reference.planned(arguments.layout, arguments.target)
    path = (arguments.output or folder_of(arguments.layout, layout) / NAME).absolute()
    made = locked(layout, plan, path, offline=arguments.offline, quiet=arguments.quiet)
    made.save()
    packages = {name for image in made.images.values() for name in image.packages}
    counts = f"{count(len(made.images), 'image')}, {count(len(packages), 'package')}"
    print(f"{path}: {counts}, {count(len(made.files), 'file')}")
    return 0


def locked(
    layout: type[Layout],
    plan: Plan,
    path: Path,
    *,
    quiet: bool,
    offline: bool = False,
    like: Lock | None = None,
    then: Then | None = None,
) -> Lock:
    """Build a layout's images with progress in sight; returns their lock, which is not saved.

    :param like: what is built must be like it.
    :param then: is awaited with the lock, the images by name, and what is called with a subject
        and how far that is.
    """
    from pytest_carthage.events import Work
    from pytest_carthage.images.locking import lock_layout
    from pytest_carthage.images.policy import Policy
    from pytest_carthage.images.preflight import check_layout
    from pytest_carthage.portal import Portal

    portal = Portal()
    try:
        with showing(quiet=quiet) as reporter:

            def note(image: str, text: str) -> None:
                subject = f"image {image}" if image else layout.__name__
                Work(reporter, subject).note(text)

            async def work() -> Lock:
                policy = Policy(offline=offline, lock=like)
                await check_layout(layout, plan, policy, note=note)
                made, built = await lock_layout(
                    layout, plan, path, portal=portal, note=note, policy=policy
                )
                if then is not None:
                    await then(made, built, note)
                return made

            return portal.call(work)
    finally:
        portal.close()
