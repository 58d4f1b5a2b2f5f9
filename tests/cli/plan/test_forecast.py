"""What of images, machines and stages is to do, from what is known of earlier runs."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest

from pytest_carthage import Image, Layout, Machine, stage
from pytest_carthage.cli.plan import images, stages
from pytest_carthage.cli.plan.images import ImageForecast
from pytest_carthage.cli.plan.machines import MachinesForecast
from pytest_carthage.cli.plan.times import Expected
from pytest_carthage.model.stage import ATTRIBUTE
from pytest_carthage.planning import make_plan
from pytest_carthage.state.timings import Timing, machine_id, stage_id

DEBIAN = Image.debian("bookworm").with_packages("nginx")


class Lab(Layout):
    db = Machine()
    web = Machine(after=db)
    cache = Machine(after=db)


@stage
def imported(lab: object) -> None:
    """The data."""


@stage(name="live")
def production(imported: object, lab: object) -> None:
    """The service."""


@stage
def alone() -> None:
    """It waits for nothing."""


def timing(*seconds: float, key: str = "") -> Timing:
    return Timing(seconds=seconds, key=key, at=1.0)


def declared(fixture: Any) -> Any:
    return getattr(fixture, ATTRIBUTE)


class Wanted:
    """A layer as a recipe tells of it."""

    def __init__(self, title: str, *, why: str = "", expected_s: float | None = None) -> None:
        self.title = title
        self.why = why
        self.expected_s = expected_s
        self.layer: Any = None if why else self
        self.key = f"key of {title}"


def forecast(*layers: Wanted, image: Image = DEBIAN, problem: str = "") -> ImageForecast:
    given: Any = layers
    return ImageForecast(image=image, layers=given, problem=problem)


# machines


def test_machines_are_timed_by_their_earlier_runs() -> None:
    plan = make_plan(Lab)
    timings = {
        machine_id(Lab, plan.machines["db"]): timing(4.0),
        machine_id(Lab, plan.machines["web"]): timing(1.0, 3.0, 2.0),
    }
    machines = MachinesForecast.of(Lab, plan, timings)
    assert machines.times == {"db": 4.0, "web": 2.0, "cache": None}
    # web and cache are built at once
    assert machines.expected == Expected(seconds=6.0, unknown=1)
    assert list(machines.lines()) == [
        "\nmachines, to do in every run",
        "    db     netns (about 4.00 s)",
        "    web    netns (about 2.00 s)",
        "    cache  netns",
        "\nbuilt in this order, what is on one line at once",
        "  1. db",
        "  2. web, cache",
    ]
    record = machines.record()
    assert record["layout"] == "Lab"
    assert [machine["expected_s"] for machine in record["machines"].values()] == [4.0, 2.0, None]


# stages


@pytest.fixture
def module() -> ModuleType:
    module = ModuleType("conftest")
    vars(module).update(
        production=production, imported=imported, alone=alone, other=7, again=imported
    )
    return module


def test_stages_are_in_the_order_in_which_they_wait(module: ModuleType) -> None:
    last = declared(imported)
    timings = {
        stage_id(last): timing(2.0, key=last.key),
        stage_id(declared(production)): timing(9.0, key="another"),
    }
    forecasts = stages.of_module(module, timings)
    assert [each.stage.name for each in forecasts] == ["imported", "alone", "live"]
    assert [each.state for each in forecasts] == ["as in the last run", "never run", "changed"]
    assert [each.expected_s for each in forecasts] == [2.0, None, 9.0]
    assert list(stages.lines(forecasts)) == [
        "\nstages, to do in every run",
        "    imported  needs lab; as in the last run (about 2.00 s)",
        "    alone     needs nothing; never run",
        "    live      needs imported, lab; changed since the last run (about 9.00 s)",
    ]
    record = forecasts[2].record()
    assert record == {
        "name": "live",
        "place": str(declared(production).place),
        "needs": ["imported", "lab"],
        "key": declared(production).key,
        "state": "changed",
        "expected_s": 9.0,
    }


def test_stages_that_wait_for_each_other_are_left_to_pytest() -> None:
    @stage
    def first(second: object) -> None: ...

    @stage
    def second(first: object) -> None: ...

    module = ModuleType("conftest")
    vars(module).update(first=first, second=second)
    assert [each.stage.name for each in stages.of_module(module, {})] == ["first", "second"]


def test_nothing_is_said_of_stages_and_images_that_there_are_not() -> None:
    assert list(stages.lines([])) == []
    assert list(images.lines([])) == []
    assert images.expected([]) == Expected()


# images


def test_image_is_told_layer_by_layer() -> None:
    image = forecast(
        Wanted("debian bookworm"), Wanted("install nginx", why="never built", expected_s=20.0)
    )
    assert list(images.lines([image])) == [
        "\nimages",
        "  debian-bookworm: 1 of 2 layers to do",
        "    debian bookworm  cached",
        "    install nginx    to do: never built (about 20 s)",
    ]
    assert images.expected([image]) == Expected(seconds=20.0)
    record = image.record()
    assert (record["name"], record["key"], record["problem"]) == (
        "debian-bookworm",
        DEBIAN.key,
        None,
    )
    assert record["layers"] == [
        {
            "title": "debian bookworm",
            "state": "cached",
            "key": "key of debian bookworm",
            "why": None,
            "expected_s": None,
        },
        {
            "title": "install nginx",
            "state": "to do",
            "key": None,
            "why": "never built",
            "expected_s": 20.0,
        },
    ]


def test_image_that_is_there_takes_no_time() -> None:
    image = forecast(Wanted("debian bookworm"), Wanted("install nginx"))
    assert next(image.lines()) == "  debian-bookworm: is there"
    assert images.expected([image]) == Expected()


def test_image_whose_layers_cannot_be_told_has_its_problem() -> None:
    image = forecast(problem="no such base")
    assert list(image.lines()) == ["  debian-bookworm: no such base"]
    assert image.record()["problem"] == "no such base"
    assert images.expected([image]) == Expected(unknown=1)


def test_what_images_have_in_common_is_made_once() -> None:
    base = Wanted("debian bookworm", why="never built")
    one = forecast(base, Wanted("install nginx", why="never built"))
    other = forecast(
        base,
        Wanted("install redis", why="never built", expected_s=3.0),
        image=Image.debian("bookworm").with_packages("redis"),
    )
    assert images.expected([one, other]) == Expected(seconds=3.0, unknown=2)
