"""``pytest-carthage plan LAYOUT``: what would be built, why and how long it takes."""

from __future__ import annotations

import argparse
import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_carthage.cli import reference
from pytest_carthage.cli.output import add_json, print_json
from pytest_carthage.errors import CarthageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from types import ModuleType

    from pytest_carthage.images.recipe import Wanted
    from pytest_carthage.model.image import Image
    from pytest_carthage.model.layout import Layout
    from pytest_carthage.model.stage import Stage
    from pytest_carthage.planning.plan import Plan, PlannedMachine
    from pytest_carthage.state.timings import Timing


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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Image:
    """An image, layer by layer."""

    image: Image
    layers: Sequence[Wanted]
    #: why its layers cannot be told of; empty: they can
    problem: str = ""

    @property
    def to_do(self) -> Sequence[Wanted]:
        return [layer for layer in self.layers if layer.layer is None]

    @property
    def expected(self) -> Mapping[tuple[str, ...], float | None]:
        """Times by what is to be made, with all that it stands on."""
        if self.problem:
            return {(self.image.key,): None}
        keys = [self.image.base_key, *(step.key for step in self.image.steps)]
        return {
            tuple(keys[:number]): layer.expected_s
            for number, layer in enumerate(self.layers, 1)
            if layer.layer is None
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stage:
    """A stage, and what is known of its last run."""

    stage: Stage
    last: Timing | None

    @property
    def state(self) -> str:
        if self.last is None:
            return "never run"
        return "as in the last run" if self.last.key == self.stage.key else "changed"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Expected:
    """A sum of times of which some may not be known."""

    seconds: float = 0.0
    unknown: int = 0

    @classmethod
    def of(cls, times: Iterable[float | None]) -> _Expected:
        told = list(times)
        return cls(
            seconds=sum(one for one in told if one is not None),
            unknown=sum(one is None for one in told),
        )

    def __add__(self, other: _Expected) -> _Expected:
        return _Expected(seconds=self.seconds + other.seconds, unknown=self.unknown + other.unknown)

    def __str__(self) -> str:
        text = _seconds(self.seconds) if self.seconds or not self.unknown else ""
        more = f"{self.unknown} never timed" if self.unknown else ""
        return ", and ".join(part for part in (text, more) if part)


def run(arguments: argparse.Namespace) -> int:
    """Print the plan."""
    from pytest_carthage.images.lock import images_of
    from pytest_carthage.planning import waves
    from pytest_carthage.realisation import check
    from pytest_carthage.state import timings

    plan = reference.planned(arguments.layout, arguments.target)
    problems = check(plan, reference.providers())
    known = timings.read()
    cls = reference.layout(arguments.layout)
    images = asyncio.run(_images(list(images_of(cls, plan).values())))
    machines = _machines(cls, plan, known)
    order = waves(plan)
    stages = _stages(reference.module(arguments.layout), known)
    sums = {
        "images": _of_images(images),
        "machines": _whole(_longest(_Expected.of([machines[name]]) for name in w) for w in order),
        "stages": _Expected.of(one.last.expected_s if one.last else None for one in stages),
    }
    if arguments.json:
        print_json(
            {
                **_sketch(plan, machines),
                "images": [_image_row(image) for image in images],
                "waves": order,
                "stages": [_stage_row(one) for one in stages],
                "expected": {
                    name: {"seconds": one.seconds, "unknown": one.unknown}
                    for name, one in {**sums, "all": _whole(sums.values())}.items()
                },
                "problems": [
                    {"who": problem.who, "what": problem.what, "remedy": problem.remedy}
                    for problem in problems
                ],
            }
        )
        return 1 if problems else 0
    from pytest_carthage.report import graph

    print(graph.text(plan), end="")
    _print_images(images)
    _print_machines(plan, machines, order)
    _print_stages(stages)
    print("\nexpected, by earlier runs")
    for name, one in sums.items():
        if {"images": images, "machines": machines, "stages": stages}[name]:
            print(f"  {name}: {one}")
    print(f"  all: {_whole(sums.values())}")
    for problem in problems:
        print(f"this host lacks: {problem}")
    return 1 if problems else 0


def _longest(sums: Iterable[_Expected]) -> _Expected:
    """Of what is done at once."""
    told = list(sums)
    return _Expected(
        seconds=max((one.seconds for one in told), default=0.0),
        unknown=sum(one.unknown for one in told),
    )


def _whole(sums: Iterable[_Expected]) -> _Expected:
    found = _Expected()
    for one in sums:
        found += one
    return found


# images


def _of_images(images: Sequence[_Image]) -> _Expected:
    """Images are made at once, what they have in common just once."""
    unknown = {key for one in images for key, time in one.expected.items() if time is None}
    return _Expected(
        seconds=_longest(_Expected.of(one.expected.values()) for one in images).seconds,
        unknown=len(unknown),
    )


async def _images(images: Sequence[Image]) -> list[_Image]:
    from pytest_carthage.images import recipe
    from pytest_carthage.images.store import Store

    store = Store()

    async def look(image: Image) -> _Image:
        try:
            return _Image(image=image, layers=await recipe.look(image, store))
        except (CarthageError, OSError) as error:
            return _Image(image=image, layers=(), problem=str(error))

    return list(await asyncio.gather(*map(look, images)))


def _print_images(images: Sequence[_Image]) -> None:
    if not images:
        return
    print("\nimages")
    for one in images:
        if one.problem:
            print(f"  {one.image.name}: {one.problem}")
            continue
        to_do = len(one.to_do)
        told = f"{to_do} of {len(one.layers)} layers to do" if to_do else "is there"
        print(f"  {one.image.name}: {told}")
        rows = [
            (layer.title, "cached")
            if layer.layer is not None
            else (layer.title, f"to do: {layer.why}{_about(layer.expected_s)}")
            for layer in one.layers
        ]
        _columns(rows)


def _image_row(one: _Image) -> dict[str, Any]:
    return {
        "name": one.image.name,
        "key": one.image.key,
        "tag": one.image.tag,
        "problem": one.problem or None,
        "layers": [
            {
                "title": layer.title,
                "state": "cached" if layer.layer is not None else "to do",
                "key": layer.layer.key if layer.layer is not None else None,
                "why": layer.why or None,
                "expected_s": None if layer.layer is not None else layer.expected_s,
            }
            for layer in one.layers
        ],
    }


# machines


def _machines(
    cls: type[Layout], plan: Plan, known: Mapping[str, Timing]
) -> dict[str, float | None]:
    """Name to what it is likely to take; None: it was never timed."""
    from pytest_carthage.state.timings import machine_id

    def expected(machine: PlannedMachine) -> float | None:
        timing = known.get(machine_id(cls, machine))
        return None if timing is None else timing.expected_s

    return {name: expected(machine) for name, machine in plan.machines.items()}


def _sketch(plan: Plan, machines: Mapping[str, float | None]) -> dict[str, Any]:
    from pytest_carthage.report.sketch import sketch

    told = sketch(plan)
    for name, row in told["machines"].items():
        row["expected_s"] = machines[name]
    return told


def _print_machines(
    plan: Plan, machines: Mapping[str, float | None], order: Sequence[Sequence[str]]
) -> None:
    print("\nmachines, to do in every run")
    _columns(
        [
            (name, f"{plan.machines[name].target}{_about(expected)}")
            for name, expected in machines.items()
        ]
    )
    print("\nbuilt in this order, what is on one line at once")
    for number, wave in enumerate(order, 1):
        print(f"  {number}. {', '.join(wave)}")


# stages


def _stages(module: ModuleType, known: Mapping[str, Timing]) -> list[_Stage]:
    """Stages that a module has, in the order in which they wait for each other."""
    from pytest_carthage.model.graph import batches
    from pytest_carthage.model.stage import ATTRIBUTE, Stage
    from pytest_carthage.state.timings import stage_id

    found: dict[str, Stage] = {}
    for value in vars(module).values():
        stage = getattr(value, ATTRIBUTE, None)
        if isinstance(stage, Stage):
            found[stage.name] = stage
    needs = {
        name: [other for other in stage.needs if other in found and other != name]
        for name, stage in found.items()
    }
    try:
        names = [name for batch in batches(needs) for name in batch]
    except ValueError:  # they wait for each other; pytest says so
        names = list(found)
    return [_Stage(stage=found[name], last=known.get(stage_id(found[name]))) for name in names]


def _print_stages(stages: Sequence[_Stage]) -> None:
    if not stages:
        return
    print("\nstages, to do in every run")
    rows = []
    for one in stages:
        state = "changed since the last run" if one.state == "changed" else one.state
        needs = f"needs {', '.join(one.stage.needs)}" if one.stage.needs else "needs nothing"
        expected = one.last.expected_s if one.last is not None else None
        rows.append((one.stage.name, f"{needs}; {state}{_about(expected)}"))
    _columns(rows)


def _stage_row(one: _Stage) -> dict[str, Any]:
    return {
        "name": one.stage.name,
        "place": str(one.stage.place),
        "needs": list(one.stage.needs),
        "key": one.stage.key,
        "state": one.state,
        "expected_s": one.last.expected_s if one.last is not None else None,
    }


# words


def _columns(rows: Sequence[tuple[str, str]]) -> None:
    width = max((len(name) for name, _ in rows), default=0)
    for name, text in rows:
        print(f"    {name.ljust(width)}  {text}")


def _about(expected_s: float | None) -> str:
    return "" if expected_s is None else f" (about {_seconds(expected_s)})"


def _seconds(duration_s: float) -> str:
    from pytest_carthage.report.progress import seconds

    return seconds(duration_s)
