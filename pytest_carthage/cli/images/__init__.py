"""``pytest-carthage images``: what is kept of images, one module for each verb.

A verb's module has ``add(verbs)``, which adds its parser with ``run`` as default, as a command's
module does for the command.
"""

from __future__ import annotations

import argparse
from typing import Any

from pytest_carthage.cli.images import build, check, gc, history, ls, push, rm, save, shell

__all__ = ["add"]


def add(commands: Any) -> None:
    """Add the command."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "images",
        help="list, build, check, look into, save and remove images",
        description="Images that were built on this host. NAME is an image's name, its tag, or "
        "the beginning of its key.",
    )
    verbs = parser.add_subparsers(metavar="VERB")
    for verb in (ls, build, check, rm, gc, history, shell, save, push):
        verb.add(verbs)
