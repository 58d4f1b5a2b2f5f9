"""``pytest-carthage graph``: a layout as a drawing."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_carthage.cli import reference, target
from pytest_carthage.cli.usage import Usage
from pytest_carthage.errors import CarthageError

if TYPE_CHECKING:
    from pytest_carthage.planning.plan import Plan

_BY_SUFFIX = {".svg": "svg", ".mmd": "mermaid", ".mermaid": "mermaid", ".md": "markdown"}


def add(commands: Any) -> None:
    """Add the command."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "graph",
        help="draw a layout",
        description="Draw a live environment (the only one where none is named), or a layout "
        "that is not built: as text, Mermaid or SVG.",
    )
    parser.add_argument(
        "what",
        metavar="ENVIRONMENT|LAYOUT",
        nargs="?",
        help="name of a live environment, or PATH.py:Class, dotted.name.Class",
    )
    parser.add_argument("--target", metavar="TARGET", help="target to plan a layout for")
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="write to FILE: .svg, .mmd, .md or .txt"
    )
    parser.add_argument(
        "--format",
        choices=("text", "mermaid", "markdown", "svg"),
        help="by default what FILE's suffix says, and text without it",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Draw it."""
    plan = _plan(arguments.what, arguments.target)
    output: Path | None = arguments.output
    form = arguments.format or (_BY_SUFFIX.get(output.suffix, "text") if output else "text")
    text = _draw(plan, form)
    if output is None:
        sys.stdout.write(text)
        return 0
    try:
        output.write_text(text)
    except OSError as error:
        raise CarthageError(f"cannot write {output}: {error.strerror}") from error
    return 0


def _draw(plan: Plan, form: str) -> str:
    from pytest_carthage.report import graph

    if form == "svg":
        return graph.svg(plan)
    if form == "mermaid":
        return graph.mermaid(plan)
    if form == "markdown":
        return f"```mermaid\n{graph.mermaid(plan).rstrip()}\n```\n"
    return graph.text(plan)


def _plan(what: str | None, on: str | None) -> Plan:
    if what is not None and (".py" in what or ":" in what or "." in what):
        return reference.planned(what, on)
    from pytest_carthage.plugin import layouts
    from pytest_carthage.report.sketch import recall
    from pytest_carthage.state.run import list_environments

    alive = [one.name for one in list_environments()]
    if what is not None and not any(name.startswith(what) for name in alive):
        registered = layouts.of_distributions()
        if what in registered:
            return reference.planned(what, on)
        raise Usage(
            f"{what!r} is no live environment (alive: {', '.join(alive) or 'none'}) and no "
            f"registered layout ({', '.join(sorted(registered)) or 'none'}); "
            "try PATH.py:Class for a layout in a file"
        )
    return recall(target.environment(what).description)
