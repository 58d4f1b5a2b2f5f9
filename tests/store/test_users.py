"""Who uses images, and what there is: as the kernel and the folders tell."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pytest_carthage.store.garbage import top_first
from pytest_carthage.store.holding import Holding
from pytest_carthage.store.inventory import Inventory
from pytest_carthage.store.users import User, building, parse_locks, users_of
from tests.support.shelf import Shelf, key_of

LOCKS = """\
1: POSIX  ADVISORY  READ  101 fe:01:7 0 EOF
2: FLOCK  ADVISORY  READ  102 fe:01:7 0 EOF
3: FLOCK  ADVISORY  WRITE 103 fe:0a:8 0 EOF
3: -> FLOCK  ADVISORY  WRITE 104 fe:0a:8 0 EOF
4: FLOCK  ADVISORY  READ  -1 fe:01:7 0 EOF
5: OFDLCK ADVISORY  READ  105 fe:01:7 0 EOF
6: short
"""


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path / "images")


def test_claims_are_read_from_the_kernels_list_by_file() -> None:
    assert parse_locks(LOCKS.splitlines()) == {
        (0xFE, 1, 7): [("READ", 102), ("READ", -1)],
        (0xFE, 10, 8): [("WRITE", 103)],
    }


@pytest.mark.parametrize(
    ("user", "text"),
    [
        (User(pid=None), "a process that cannot be seen from here"),
        (User(pid=7), "process 7"),
        (User(pid=7, command="pytest -x"), "process 7 (pytest -x)"),
    ],
)
def test_user_is_told_in_words(user: User, text: str) -> None:
    assert str(user) == text


def test_image_is_used_by_who_holds_its_top_layer(shelf: Shelf) -> None:
    base = shelf.layer("base")
    assert users_of(shelf.store, base.key) == []
    with Holding() as holding:
        assert holding.add(base.path)
        (user,) = users_of(shelf.store, base.key)
        assert user.pid == os.getpid()
        assert user.command
        assert len(user.command) <= 60
    assert users_of(shelf.store, base.key) == []
    assert users_of(shelf.store, "0" * 32) == []


def test_image_that_somebody_removes_just_now_has_a_user_that_is_not_seen(shelf: Shelf) -> None:
    base = shelf.layer("base")
    with shelf.store.layers.alone(base.key) as is_alone:
        assert is_alone
        assert users_of(shelf.store, base.key) == [User(pid=None)]


def test_claim_of_a_build_that_has_ended_is_no_build(shelf: Shelf) -> None:
    shelf.store.claims.path("step").write_text("install\nweb\n1\n")
    assert building(shelf.store) == []


def test_layers_are_ordered_top_first_also_in_a_circle(shelf: Shelf) -> None:
    base = shelf.layer("base")
    middle = shelf.layer("middle", base)
    top = shelf.layer("top", middle)
    layers = {layer.key: layer for layer in (middle, top, base)}
    assert [layer.meta.title for layer in top_first(layers)] == ["top", "middle", "base"]
    circle = {base.key: top, top.key: top}
    assert len(top_first(circle)) == 2


# the inventory


def test_bytes_of_layers_are_own_or_shared(shelf: Shelf) -> None:
    base = shelf.layer("base", kib=64)
    web = shelf.layer("web", base, kib=128)
    shelf.image("plain", base)
    shelf.image("web", base, web)
    inventory = Inventory(shelf.store)
    by_name = {kept.record.name: kept for kept in inventory.images}
    sizes = inventory.sizes
    assert (by_name["plain"].own, by_name["plain"].shared) == (0, sizes[base.key])
    assert (by_name["web"].own, by_name["web"].shared) == (sizes[web.key], sizes[base.key])
    # a layer takes as much as its files, and what is beside them
    assert sizes[base.key] == base.meta.size + 4096
    assert inventory.times == {base.key: 2, web.key: 1}


@pytest.mark.parametrize(
    ("name", "matches"),
    [
        ("web", ["web", "web"]),
        ("localhost/web:1", ["web"]),
        (key_of("image db")[:6], ["db"]),
        (key_of("top of db")[:6], ["db"]),
        ("other", []),
    ],
)
def test_person_means_an_image_by_name_then_tag_then_key(
    shelf: Shelf, name: str, matches: list[str]
) -> None:
    base = shelf.layer("base")
    shelf.image("web", base, tag="localhost/web:1", version="1")
    shelf.image("web", base, version="2")
    shelf.image("db", base, shelf.layer("top of db", base))
    assert [kept.record.name for kept in Inventory(shelf.store).find(name)] == matches


def test_image_without_one_of_its_layers_is_incomplete(shelf: Shelf) -> None:
    base = shelf.layer("base")
    top = shelf.layer("top", base)
    shelf.image("web", base, top)
    assert Inventory(shelf.store).images[0].is_complete
    (top.path / "layer.json").unlink()
    kept = Inventory(shelf.store).images[0]
    assert not kept.is_complete
    assert (kept.layers, kept.top) == ((base,), top.key)


def test_layers_below_a_broken_build_are_not_unnamed(shelf: Shelf) -> None:
    base = shelf.layer("base")
    below = shelf.layer("below", base)
    stray = shelf.layer("stray", base)
    shelf.image("web", base)
    shelf.broken("wreck", base, below)
    inventory = Inventory(shelf.store)
    assert inventory.unnamed == [stray]
    build = inventory.find_broken("wreck")
    assert build is not None
    assert build.layers == (base.key, below.key)
    assert inventory.find_broken("web") is None
