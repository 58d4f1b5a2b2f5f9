"""What is remembered of images, of steps and of builds that failed."""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from pytest_carthage.model.image import Healthcheck, ImageConfig
from pytest_carthage.store.broken import BrokenBuilds
from pytest_carthage.store.outcomes import Outcome, Outcomes
from pytest_carthage.store.records import ImageRecord, Records, config_of

CONFIG = ImageConfig(
    command=("/bin/sh", "-c", "true"),
    env=(("A", "1"), ("B", "2")),
    labels=(("team", "net"),),
    user="www-data",
    workdir="/srv",
    healthcheck=Healthcheck(command=("true",), interval_s=5.0),
)


@pytest.fixture
def records(tmp_path: Path) -> Records:
    return Records(tmp_path)


def record(name: str, *layers: str, used_at: float = 1000.0) -> ImageRecord:
    return ImageRecord(
        key=f"key-of-{name}",
        name=name,
        tag=None,
        layers=layers,
        built_at=1000.0,
        used_at=used_at,
        config=asdict(CONFIG),
    )


# images


def test_image_is_remembered_with_all_that_it_says(records: Records) -> None:
    records.keep(record("web", "a", "b"))
    web = records.get("key-of-web")
    assert web is not None
    assert (web.name, web.layers, web.top, web.built_at) == ("web", ("a", "b"), "b", 1000.0)
    assert config_of(web.config) == CONFIG


def test_image_that_is_asked_for_again_was_used_now_and_built_then(records: Records) -> None:
    records.keep(record("web", "a"))
    os.utime(records.path("key-of-web"), (5.0, 5.0))
    assert [row.used_at for row in records] == [5.0]
    records.keep(replace(record("web", "a"), built_at=2000.0))
    (web,) = records
    assert web.built_at == 1000.0
    assert web.used_at == pytest.approx(time.time(), abs=60)


def test_image_of_other_layers_is_remembered_anew(records: Records) -> None:
    records.keep(record("web", "a"))
    records.keep(replace(record("web", "a", "b"), built_at=2000.0))
    (web,) = records
    assert (web.layers, web.built_at) == (("a", "b"), 2000.0)


def test_images_are_told_by_their_last_use(records: Records) -> None:
    for number, name in enumerate(("old", "new", "middle")):
        records.keep(record(name, "a"))
        used_at = (1.0, 3.0, 2.0)[number]
        os.utime(records.path(f"key-of-{name}"), (used_at, used_at))
    assert [row.name for row in records] == ["new", "middle", "old"]


def test_tops_are_those_of_images_with_layers(records: Records) -> None:
    records.keep(record("web", "a", "b"))
    records.keep(record("bare"))
    assert records.tops() == {"b"}


@pytest.mark.parametrize("text", ["", "{", "[]x"])
def test_record_that_is_damaged_is_none(records: Records, text: str) -> None:
    records.path("key").write_text(text)
    assert records.get("key") is None
    assert list(records) == []


def test_record_with_a_field_of_a_later_version_is_read(records: Records) -> None:
    records.keep(record("web", "a"))
    path = records.path("key-of-web")
    path.write_text(json.dumps({**json.loads(path.read_text()), "flavour": "new"}))
    assert [row.name for row in records] == ["web"]


def test_removed_record_is_gone_and_removing_it_again_is_no_error(records: Records) -> None:
    records.keep(record("web", "a"))
    records.remove("key-of-web")
    records.remove("key-of-web")
    assert list(records) == []


@pytest.mark.parametrize(
    ("record", "config"),
    [
        ({}, ImageConfig()),
        ({"command": [], "env": None, "user": None}, ImageConfig()),
        ({"env": {"A": "1"}}, ImageConfig(env=(("A", "1"),))),
        ({"env": [["A", "1"]]}, ImageConfig(env=(("A", "1"),))),
        ({"command": ["/bin/sh"], "labels": {"x": "y"}, "workdir": "/srv"},
         ImageConfig(command=("/bin/sh",), labels=(("x", "y"),), workdir="/srv")),
    ],
)  # fmt: skip
def test_configuration_is_read_as_a_base_or_a_record_has_it(
    record: dict[str, object], config: ImageConfig
) -> None:
    assert config_of(record) == config


# steps


def test_outcomes_of_a_step_are_told_last_first_and_each_once(tmp_path: Path) -> None:
    outcomes = Outcomes(tmp_path)
    assert outcomes.of("step") == ()
    outcomes.add("step", {"x": "1"}, "a")
    outcomes.add("step", {"x": "2"}, "b")
    outcomes.add("step", {"x": "1"}, "c")
    assert list(outcomes.of("step")) == [
        Outcome(inputs={"x": "1"}, layer="c"),
        Outcome(inputs={"x": "2"}, layer="b"),
    ]
    assert list(outcomes.declared()) == ["step"]


def test_only_the_last_outcomes_of_a_step_are_remembered(tmp_path: Path) -> None:
    outcomes = Outcomes(tmp_path)
    for number in range(25):
        outcomes.add("step", {"x": str(number)}, str(number))
    assert [row.layer for row in outcomes.of("step")] == [str(24 - n) for n in range(20)]


def test_step_without_outcomes_has_no_file(tmp_path: Path) -> None:
    outcomes = Outcomes(tmp_path)
    outcomes.add("step", {}, "a")
    outcomes.replace("step", [])
    assert list(tmp_path.iterdir()) == []
    outcomes.replace("step", [])


def test_outcomes_that_are_damaged_are_none(tmp_path: Path) -> None:
    outcomes = Outcomes(tmp_path)
    outcomes.path("step").write_text("[")
    assert outcomes.of("step") == ()


# builds that failed


def test_broken_build_is_kept_with_its_files_in_place_of_an_older_one(tmp_path: Path) -> None:
    (tmp_path / "broken").mkdir()
    broken = BrokenBuilds(tmp_path / "broken")
    for error in ("first", "second"):
        work = tmp_path / "work"
        (work / "tree").mkdir(parents=True)
        (work / "tree" / error).touch()
        broken.keep(work, "web", image="Web!", title="configure", layers=["a", "b"], error=error)
        assert not work.exists()
    (build,) = broken
    assert (build.name, build.image, build.title, build.error) == (
        "web", "Web!", "configure", "second",
    )  # fmt: skip
    assert build.layers == ("a", "b")
    assert [path.name for path in build.tree.iterdir()] == ["second"]
    assert build.at == pytest.approx(time.time(), abs=60)
    assert broken.tops() == {"b"}


def test_broken_build_that_says_nothing_of_itself_is_not_told(tmp_path: Path) -> None:
    (tmp_path / "web").mkdir()
    (tmp_path / "web/broken.json").write_text('{"image": "web"}')
    assert list(BrokenBuilds(tmp_path)) == []


@pytest.mark.parametrize(
    "change", [{"key": "../key-of-web"}, {"key": "other"}, {"layers": ["a", "../../b"]}]
)
def test_record_that_leads_out_of_the_store_is_none(
    records: Records, change: dict[str, object]
) -> None:
    records.keep(record("web", "a"))
    path = records.path("key-of-web")
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    assert records.get("key-of-web") is None
    assert list(records) == []
    assert records.damaged() == [path]
