"""Layers by key, and folders that somebody holds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pytest_carthage.errors import BuildError
from pytest_carthage.store.holding import Holding, alone
from pytest_carthage.store.layer import META, LayerMeta
from pytest_carthage.store.layers import Layers


@pytest.fixture
def layers(tmp_path: Path) -> Layers:
    (tmp_path / "layers").mkdir()
    return Layers(tmp_path / "layers")


def make(layers: Layers, key: str, parent: str | None = None) -> None:
    work = layers.folder.parent / f"work-{key}"
    (work / "tree").mkdir(parents=True)
    layers.commit(work, LayerMeta(key=key, parent=parent, kind="task", title=key.upper()))


# by key


def test_layer_that_was_committed_is_there_as_it_was_described(layers: Layers) -> None:
    make(layers, "a")
    layer = layers.get("a")
    assert layer is not None
    assert layer.meta == LayerMeta(key="a", parent=None, kind="task", title="A")
    assert layer.tree == layers.folder / "a/tree"
    assert "a" in layers
    assert "b" not in layers
    assert layers.get("b") is None


def test_layers_are_told_in_the_order_of_their_keys(layers: Layers) -> None:
    for key in ("c", "a", "b"):
        make(layers, key)
    assert [layer.key for layer in layers] == ["a", "b", "c"]


def test_no_layers_where_there_is_no_store(tmp_path: Path) -> None:
    assert list(Layers(tmp_path / "none")) == []
    assert Layers(tmp_path / "none").supporting() == set()


def test_chain_begins_with_the_base_and_is_none_where_one_is_missing(layers: Layers) -> None:
    make(layers, "a")
    make(layers, "b", "a")
    make(layers, "c", "b")
    chain = layers.chain("c")
    assert chain is not None
    assert [layer.key for layer in chain] == ["a", "b", "c"]
    (layers.folder / "b" / META).unlink()
    assert layers.chain("c") is None


def test_layers_below_others_support_them(layers: Layers) -> None:
    make(layers, "a")
    make(layers, "b", "a")
    assert layers.supporting() == {"a"}
    make(layers, "c", "b")
    assert layers.supporting() == {"a", "b"}


def test_second_of_two_who_made_the_same_layer_gets_that_of_the_first(layers: Layers) -> None:
    make(layers, "a")
    (layers.folder / "a/tree/first").touch()
    work = layers.folder.parent / "work-again"
    (work / "tree").mkdir(parents=True)
    layer = layers.commit(work, LayerMeta(key="a", parent=None, kind="task", title="again"))
    assert layer.meta.title == "A"
    assert (layer.tree / "first").exists()
    assert not work.exists()


def test_layer_that_cannot_be_kept_is_an_error_with_its_key(tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    with pytest.raises(BuildError, match=r"layer aa could not be kept in .*/none"):
        Layers(tmp_path / "none").commit(
            work, LayerMeta(key="aa", parent=None, kind="base", title="base")
        )


def test_folders_that_say_nothing_of_themselves_are_damaged(layers: Layers) -> None:
    for key in ("a", "b", "c"):
        make(layers, key)
    (layers.folder / "b" / META).write_text("{")
    (layers.folder / "c" / META).write_text('{"key": "c", "parent": null')
    assert [path.name for path in layers.damaged()] == ["b", "c"]
    assert [layer.key for layer in layers] == ["a"]


def test_description_of_another_version_is_read_without_what_is_new_in_it(layers: Layers) -> None:
    make(layers, "a")
    path = layers.folder / "a" / META
    path.write_text(json.dumps({**json.loads(path.read_text()), "flavour": "new"}))
    layer = layers.get("a")
    assert layer is not None
    assert layer.meta.title == "A"


# who holds them


def test_holding_keeps_a_folder_from_being_had_alone(tmp_path: Path) -> None:
    with Holding() as holding:
        assert holding.add(tmp_path)
        assert holding.add(tmp_path)  # a second time is the same hold
        with alone(tmp_path) as is_alone:
            assert not is_alone
    with alone(tmp_path) as is_alone:
        assert is_alone


def test_holding_of_what_is_gone_is_false(tmp_path: Path) -> None:
    assert not Holding().add(tmp_path / "gone")


def test_nobody_is_alone_with_what_is_not_there(tmp_path: Path) -> None:
    with alone(tmp_path / "gone") as is_alone:
        assert not is_alone


def test_released_holding_has_no_descriptors_left(tmp_path: Path) -> None:
    def descriptors() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    holding = Holding()
    before = descriptors()
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        assert holding.add(tmp_path / name)
    assert descriptors() == before + 2
    holding.release()
    holding.release()
    assert descriptors() == before


def test_layer_that_is_lent_to_another_store_is_held_where_it_is(
    layers: Layers, tmp_path: Path
) -> None:
    make(layers, "a")
    (tmp_path / "other").mkdir()
    (tmp_path / "other/a").symlink_to(layers.path("a"))
    with Holding() as holding:
        assert holding.add(tmp_path / "other/a")
        with layers.alone("a") as is_alone:
            assert not is_alone
