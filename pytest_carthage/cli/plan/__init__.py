"""``pytest-carthage plan LAYOUT``: what would be built, why and how long it takes."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_carthage.cli import reference
from pytest_carthage.cli.output import add_json, print_json

if TYPE_CHECKING:
    from pytest_carthage.cli.plan.images import ImageForecast
    from pytest_carthage.cli.plan.machines import MachinesForecast
    from pytest_carthage.cli.plan.stages import StageForecast
    from pytest_carthage.cli.plan.times import Expected
    from pytest_carthage.errors import Problem


def add(commands: Any) -> None:
    """Add the command."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "plan",
        help="tell what would be built, and why",
        description="Check a layout and tell of each image, machine and stage whether it is "
        "there or to do, why, and how long it took in earlier runs; in which order; and what "
        "this host lacks for it (then the exit status is 1). Stages are those of the module that "
        "LAYOUT names. Nothing is created or fetched.",
    )
    reference.add_layout(parser)
    add_json(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the plan."""
    forecast = _forecast(arguments.layout, arguments.target)
    if arguments.json:
        print_json(forecast.record())
    else:
        for line in forecast.lines():
            print(line)
    return 1 if forecast.problems else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Forecast:
    """What a layout would take."""

    images: Sequence[ImageForecast]
    machines: MachinesForecast
    stages: Sequence[StageForecast]
    #: what this host lacks
    problems: Sequence[Problem]
    #: images, machines and stages to how long they take
    expected: Mapping[str, Expected]
    all: Expected

    def record(self) -> dict[str, Any]:
        """It in plain values, for programs."""
        return {
            **self.machines.record(),
            "images": [image.record() for image in self.images],
            "waves": self.machines.waves,
            "stages": [stage.record() for stage in self.stages],
            "expected": {
                name: {"seconds": expected.seconds, "unknown": expected.unknown}
                for name, expected in {**self.expected, "all": self.all}.items()
            },
            "problems": [
                {"who": problem.who, "what": problem.what, "remedy": problem.remedy}
                for problem in self.problems
            ],
        }

    def lines(self) -> Iterator[str]:
        """It for a person."""
        from pytest_carthage.cli.plan import images, stages
        from pytest_carthage.report import drawing

        yield from drawing.text(self.machines.plan).splitlines()
        yield from images.lines(self.images)
        yield from self.machines.lines()
        yield from stages.lines(self.stages)
        yield "\nexpected, by earlier runs"
        having = {
            "images": self.images,
            "machines": self.machines.plan.machines,
            "stages": self.stages,
        }
        for name, expected in self.expected.items():
            if having[name]:
                yield f"  {name}: {expected}"
        yield f"  all: {self.all}"
        for problem in self.problems:
            yield f"this host lacks: {problem}"


def _forecast(layout: str, target: str | None) -> _Forecast:
    from pytest_carthage.cli.plan import images, stages
    from pytest_carthage.cli.plan.machines import MachinesForecast
    from pytest_carthage.cli.plan.times import Expected
    from pytest_carthage.planning.images import images_of
    from pytest_carthage.providing import check
    from pytest_carthage.state import timings

    plan = reference.planned(layout, target)
    problems = check(plan, reference.providers())
    times = timings.read()
    cls = reference.layout(layout)
    image_forecasts = asyncio.run(images.look(list(images_of(plan).values())))
    machines = MachinesForecast.of(cls, plan, times)
    stage_forecasts = stages.of_module(reference.module(layout), times)
    expected = {
        "images": images.expected(image_forecasts),
        "machines": machines.expected,
        "stages": Expected.of(stage.expected_s for stage in stage_forecasts),
    }
    return _Forecast(
        images=image_forecasts,
        machines=machines,
        stages=stage_forecasts,
        problems=problems,
        expected=expected,
        all=Expected.whole(expected.values()),
    )
