"""``pytest-carthage lock LAYOUT``: write down what a layout is built from, to the version."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_carthage.cli import reference
from pytest_carthage.cli.policy import folder_of
from pytest_carthage.cli.progress import showing

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from pytest_carthage.images.lock import Lock
    from pytest_carthage.images.store import Built
    from pytest_carthage.model.layout import Layout
    from pytest_carthage.planning.plan import Plan

    Then = Callable[[Lock, dict[str, Built], Callable[[str, str], None]], Awaitable[None]]

__all__ = ["locked", "many"]


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
    from pytest_carthage.images.lock import NAME

    layout = reference.layout(arguments.layout)
    plan = reference.planned(arguments.layout, arguments.target)
    path = (arguments.output or folder_of(arguments.layout, layout) / NAME).absolute()
    made = locked(layout, plan, path, offline=arguments.offline, quiet=arguments.quiet)
    made.save()
    packages = {name for image in made.images.values() for name in image.packages}
    counts = f"{many(len(made.images), 'image')}, {many(len(packages), 'package')}"
    print(f"{path}: {counts}, {many(len(made.files), 'file')}")
    return 0


def locked(
    layout: type[Layout],
    plan: Plan,
    path: Path,
    *,
    quiet: bool,
    offline: bool = False,
    known: Lock | None = None,
    then: Then | None = None,
) -> Lock:
    """Build a layout's images with progress in sight; returns their lock, which is not saved.

    :param known: what is built must be like it.
    :param then: is awaited with the lock, the images by name, and what is told of progress.
    """
    from pytest_carthage.images.lock import lock_layout
    from pytest_carthage.images.policy import Policy
    from pytest_carthage.images.preflight import check_layout
    from pytest_carthage.portal import Portal
    from pytest_carthage.report.events import Event

    portal = Portal()
    try:
        with showing(quiet=quiet) as reporter:

            def note(who: str, text: str) -> None:
                subject = f"image {who}" if who else layout.__name__
                reporter.event(
                    Event(at_s=time.time(), environment="", subject=subject, kind="note", text=text)
                )

            async def work() -> Lock:
                policy = Policy(offline=offline, lock=known)
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


def many(number: int, what: str) -> str:
    """Write how many there are."""
    return f"{number} {what}{'' if number == 1 else 's'}"
