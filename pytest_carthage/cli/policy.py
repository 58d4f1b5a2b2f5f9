"""What a command lets builds of images do: ``--locked`` and ``--offline``."""

from __future__ import annotations

import argparse
import inspect
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_carthage.images.policy import Policy
    from pytest_carthage.live.layout import Layout

__all__ = ["add_policy", "folder_of", "policy"]


def add_policy(parser: argparse.ArgumentParser) -> None:
    """Add the options ``--locked`` and ``--offline``."""
    parser.add_argument(
        "--locked",
        nargs="?",
        const="",
        metavar="FILE",
        help="stop where what is built would differ from carthage.lock (beside the layout's file)",
    )
    parser.add_argument(
        "--offline", action="store_true", help="fetch nothing; tell what would have to be"
    )


def policy(
    arguments: argparse.Namespace, layout: type[Layout], *, text: str | None = None
) -> Policy:
    """What was chosen.

    :param text: how the layout was named; by default the argument ``layout``.
    :raises pytest_carthage.errors.LockError: there is no lock of the layout.
    """
    from pytest_carthage.images.locks.finding import find
    from pytest_carthage.images.policy import Policy

    chosen = None
    if arguments.locked is not None:
        here = Path.cwd()
        chosen = find(
            layout,
            [arguments.locked] if arguments.locked else [],
            folder=here,
            places=[folder_of(text or arguments.layout, layout), here],
        )
    return Policy(offline=arguments.offline, lock=chosen)


def folder_of(text: str, layout: type[Layout]) -> Path:
    """The folder of the file that a person named, or else of the one that has the layout."""
    path = Path(text if text.endswith(".py") else text.rpartition(":")[0])
    if path.suffix == ".py":
        return path.absolute().parent
    return Path(inspect.getfile(layout)).absolute().parent
