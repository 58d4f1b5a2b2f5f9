"""``pytest-carthage graph``: a layout as a drawing."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_carthage.cli import reference, target
from pytest_carthage.cli.output import write_text
from pytest_carthage.cli.usage import Usage

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
        "subject",
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
    plan = _plan(arguments.subject, arguments.target)
    output: Path | None = arguments.output
    form = arguments.format or (_BY_SUFFIX.get(output.suffix, "text") if output else "text")
    write_text(_draw(plan, form), output)
    return 0


def _draw(plan: Plan, form: str) -> str:
    from pytest_carthage.report import drawing

    if form == "svg":
        return drawing.svg(plan)
    if form == "mermaid":
        return drawing.mermaid(plan)
    if form == "markdown":
        return f"```mermaid\n{drawing.mermaid(plan).rstrip()}\n```\n"
    return drawing.text(plan)


def _plan(subject: str | None, on: str | None) -> Plan:
    if subject is not None and (".py" in subject or ":" in subject or "." in subject):
        return reference.planned(subject, on)
    from pytest_carthage.planning.sketch import recall
    from pytest_carthage.reference import layouts
    from pytest_carthage.state.listing import list_environments

    alive = [environment.name for environment in list_environments()]
    if subject is not None and not any(name.startswith(subject) for name in alive):
        registered = layouts.of_distributions()
        if subject in registered:
            return reference.planned(subject, on)
        raise Usage(
            f"{subject!r} is no live environment (alive: {', '.join(alive) or 'none'}) and no "
            f"registered layout ({', '.join(sorted(registered)) or 'none'}); "
            "try PATH.py:Class for a layout in a file"
        )
    return recall(target.environment(subject).description)
