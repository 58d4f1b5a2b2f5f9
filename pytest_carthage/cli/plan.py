"""``pytest-carthage plan LAYOUT``: what would be built, and what this host lacks for it."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from pytest_carthage.cli import reference
from pytest_carthage.cli.output import add_json, print_json

if TYPE_CHECKING:
    from pytest_carthage.planning.plan import Plan


def add(commands: Any) -> None:
    """Add the command."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "plan",
        help="tell what would be built",
        description="Check a layout and tell what would be built, in which order, and what this "
        "host lacks for it (then the exit status is 1). Nothing is created.",
    )
    reference.add_layout(parser)
    add_json(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the plan."""
    from pytest_carthage.planning import waves
    from pytest_carthage.realisation import check
    from pytest_carthage.report.sketch import sketch

    plan = reference.planned(arguments.layout, arguments.target)
    problems = check(plan, reference.providers())
    if arguments.json:
        print_json(
            {
                **sketch(plan),
                "images": [image.name for image in plan.images.values()],
                "waves": waves(plan),
                "problems": [
                    {"who": problem.who, "what": problem.what, "remedy": problem.remedy}
                    for problem in problems
                ],
            }
        )
    else:
        _print(plan)
        for problem in problems:
            print(f"this host lacks: {problem}")
    return 1 if problems else 0


def _print(plan: Plan) -> None:
    from pytest_carthage.planning import waves
    from pytest_carthage.report import graph

    print(graph.text(plan), end="")
    if plan.images:
        print("\nimages")
        for image in plan.images.values():
            print(f"  {image.name}: {', '.join(image.packages) or image.reference or 'minimal'}")
    print("\nbuilt in this order, what is on one line at once")
    for number, wave in enumerate(waves(plan), 1):
        print(f"  {number}. {', '.join(wave)}")
