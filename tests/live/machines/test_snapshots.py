"""Snapshots of machines: what is refused before anything is kept, and what a revert brings back."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pytest_carthage import Layout, Machine, Network, UnsupportedError, testing
from pytest_carthage.errors import FabricError
from pytest_carthage.portal import Portal
from tests.support.layouts import building


class Shop(Layout):
    target = "fake"
    lan = Network("10.0.0.0/24")
    web = Machine(links={"eth0": lan.at(".1")})


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Any]:
    with contextlib.closing(Portal()) as portal:
        world = testing.World()
        provider = testing.FakeProvider(world)
        with (
            contextlib.closing(world),
            building(
                portal,
                {"fake": lambda: provider},
                pretended=lambda: testing.FakeRun(tmp_path, world),
            ) as build,
        ):
            yield build(Shop)


def test_revert_brings_files_back_and_what_came_later_is_gone(shop: Any) -> None:
    shop.web.write_text("/srv/data", "one")
    shop.web.snapshot("imported")
    shop.web.write_text("/srv/data", "two")
    shop.web.write_text("/srv/more", "new")
    shop.web.snapshot("later")
    shop.web.revert("imported")
    assert shop.web.read_text("/srv/data") == "one"
    assert not shop.web.exists("/srv/more")
    assert list(shop.web.snapshots()) == ["imported", "later"]


def test_revert_can_be_done_again_and_again(shop: Any) -> None:
    shop.web.snapshot("empty")
    for text in ("one", "two"):
        shop.web.write_text("/srv/data", text)
        shop.web.revert("empty")
        assert not shop.web.exists("/srv/data")


def test_revert_of_a_machine_that_is_off_has_it_run(shop: Any) -> None:
    shop.web.snapshot("on")
    shop.web.stop()
    shop.web.revert("on")
    assert shop.web.read_text("/etc/hosts")


def test_revert_of_a_machine_that_has_crashed_has_it_run(shop: Any) -> None:
    shop.web.snapshot("on")
    shop.web.crash()
    shop.web.revert("on")
    assert shop.web.read_text("/etc/hosts")


def test_names_that_came_after_the_snapshot_are_known_after_a_revert(shop: Any) -> None:
    shop.web.snapshot("before")
    shop.add(Machine(links={"eth0": shop.lan.at(".9")}), name="till")
    shop.web.revert("before")
    assert "10.0.0.9 till" in " ".join(shop.web.read_text("/etc/hosts").split())


@pytest.mark.parametrize("name", ["", "4711", "-x", "a b", "a\nb", "a" * 64, "käse", "x/y"])
def test_snapshot_with_a_name_that_no_disk_can_keep_is_refused(shop: Any, name: str) -> None:
    with pytest.raises(
        FabricError,
        match=r"machine 'web' of layout 'Shop': a snapshot cannot be called .*; try: letters",
    ):
        shop.web.snapshot(name)
    assert list(shop.web.snapshots()) == []


def test_second_snapshot_of_a_name_is_refused_with_the_first_one_kept(shop: Any) -> None:
    shop.web.write_text("/srv/data", "one")
    shop.web.snapshot("imported")
    shop.web.write_text("/srv/data", "two")
    with pytest.raises(
        FabricError, match=r"there is a snapshot 'imported' already; try: another name, or revert"
    ):
        shop.web.snapshot("imported")
    shop.web.revert("imported")
    assert shop.web.read_text("/srv/data") == "one"


def test_snapshot_of_a_machine_that_is_off_is_refused(shop: Any) -> None:
    shop.web.stop()
    with pytest.raises(FabricError, match=r"it is off, and has no memory to keep; try: start\(\)"):
        shop.web.snapshot("off")


@pytest.mark.parametrize(
    "ask", [lambda web: web.snapshot("cold"), lambda web: web.revert("warm")], ids=["snap", "back"]
)
def test_machine_that_is_frozen_is_neither_kept_nor_put_back(
    shop: Any, ask: Callable[[Any], object]
) -> None:
    shop.web.snapshot("warm")
    with shop.web.freeze(), pytest.raises(FabricError, match=r"it is frozen; try: heal\(\)"):
        ask(shop.web)


def test_revert_to_what_was_never_kept_tells_what_there_is(shop: Any) -> None:
    with pytest.raises(FabricError, match=r"no snapshot 'imported' \(it has none\); try: snapshot"):
        shop.web.revert("imported")
    shop.web.snapshot("empty")
    with pytest.raises(FabricError, match=r"no snapshot 'imported' \(there are \['empty'\]\)"):
        shop.web.revert("imported")


def test_snapshots_are_refused_by_name_where_a_target_has_none(tmp_path: Path) -> None:
    from dataclasses import replace

    world = testing.World()
    traits = replace(testing.FakeProvider(world).traits, lacks=frozenset({"snapshots"}))
    poor = testing.FakeProvider(world, traits=traits)
    able = testing.FakeProvider(world, kind="able")
    with (
        contextlib.closing(Portal()) as portal,
        contextlib.closing(world),
        building(
            portal,
            {"fake": lambda: poor, "able": lambda: able},
            pretended=lambda: testing.FakeRun(tmp_path, world),
        ) as build,
    ):
        web: Any = build(Shop).web
        assert not web.can("snapshots")
        with pytest.raises(
            UnsupportedError,
            match="machine 'web' of layout 'Shop': target 'fake' cannot take snapshots of "
            r'machines, or go back to them; web.revert\(\) asks for that; try: on="able"',
        ):
            web.revert("x")
