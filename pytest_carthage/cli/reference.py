"""A layout class that a person names on the command line."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_carthage.model.layout import Layout
    from pytest_carthage.planning.plan import Plan
    from pytest_carthage.realisation import Providers

__all__ = ["add_layout", "layout", "planned", "providers"]


def add_layout(parser: argparse.ArgumentParser) -> None:
    """Add the argument LAYOUT and the option ``--target``."""
    parser.add_argument(
        "layout",
        metavar="LAYOUT",
        help="PATH.py:Class, dotted.name.Class, or the name of a registered layout",
    )
    parser.add_argument(
        "--target", metavar="TARGET", help="where machines run that do not say so themselves"
    )


def layout(text: str) -> type[Layout]:
    """Find the layout that is meant.

    :raises pytest_carthage.errors.LayoutError: there is none; says what there is.
    """
    from pytest_carthage.plugin import layouts

    return layouts.find(text, registered=layouts.of_distributions(), folder=Path.cwd())


def providers() -> Providers:
    """All targets that installed distributions offer."""
    from pytest_carthage.provider import load_providers
    from pytest_carthage.realisation import Providers

    return Providers(load_providers())


def planned(text: str, target: str | None) -> Plan:
    """Find and plan a layout.

    :raises pytest_carthage.errors.LayoutError: it is unknown, or wrong.
    """
    from pytest_carthage.planning import make_plan

    return make_plan(layout(text), target=target, known_targets=providers().kinds)
