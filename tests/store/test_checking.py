"""What a power cut, a disk or a hand may do to a store: it is found, told, and put aside."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_carthage.store import census, disk
from pytest_carthage.store.checking import Damage, damages, repair
from pytest_carthage.store.garbage import collect
from pytest_carthage.store.holding import Holding
from pytest_carthage.store.layer import META, Layer
from pytest_carthage.store.layers import Layers
from pytest_carthage.store.root import Store
from tests.images.handmade import Images

BASE, ABOVE = "b" * 32, "c" * 32
SCRIPT = "mkdir etc; echo one > etc/one; ln -s one etc/two; ln etc/one etc/three; mkfifo pipe"


@pytest.fixture
def images(tmp_path: Path) -> Images:
    return Images(tmp_path / "images")


def counted(images: Images, key: str = BASE) -> Layer:
    """A layer as a build leaves it."""
    layer = images.layer(key, script=SCRIPT)
    found = census.count(layer.tree)
    meta = replace(layer.meta, census=found.digest, entries=found.entries, size=found.size)
    meta.save(layer.path)
    return Layer(layer.path, meta)


def edited(change: Callable[[dict[str, object]], object]) -> Callable[[Path], object]:
    def edit(path: Path) -> None:
        record = json.loads(path.read_text())
        change(record)
        path.write_text(json.dumps(record))

    return edit


def run(script: str, path: Path) -> None:
    subprocess.run(["sh", "-ec", script, str(path)], check=True)


#: what may become of a layer.json, and what is told of it
RUINS: dict[str, tuple[Callable[[Path], object], str]] = {
    "truncated": (lambda path: os.truncate(path, 40), r"layer\.json: "),
    "empty": (lambda path: os.truncate(path, 0), r"layer\.json: Expecting value"),
    "zeros": (lambda path: path.write_bytes(bytes(4096)), r"layer\.json: "),
    "garbage": (lambda path: path.write_bytes(os.urandom(500) + b"\xff"), r"layer\.json: "),
    "deep": (lambda path: path.write_text("[" * 100_000), r"layer\.json: "),
    "a list": (lambda path: path.write_text("[1]"), r"layer\.json: it is list, and no object"),
    "missing": (lambda path: path.unlink(), r"layer\.json cannot be read: No such file"),
    "a folder": (lambda path: run("rm $0; mkdir $0", path), r"layer\.json cannot be read: Is a d"),
    "without a parent": (edited(lambda r: r.pop("parent")), r"layer\.json: it has no 'parent'"),
    "a number as key": (edited(lambda r: r.update(key=3)), r"layer\.json: its 'key' is int"),
    "of another": (edited(lambda r: r.update(key=ABOVE)), rf"layer\.json: it is of '{ABOVE}'"),
    "inputs that are a list": (
        edited(lambda r: r.update(inputs=["x"])),
        r"layer\.json: its 'inputs' is list",
    ),
    "packages without versions": (
        edited(lambda r: r.update(packages={"bash": None})),
        r"layer\.json: its 'packages' has something that is no text",
    ),
    "without its files": (
        lambda path: disk.delete(path.with_name("tree")),
        r"its files are gone",
    ),
}


@pytest.mark.parametrize("ruin", RUINS)
def test_layer_that_says_nothing_of_itself_is_found_and_set_aside(
    images: Images, ruin: str
) -> None:
    layer, store = counted(images), images.store
    store.records.keep(images.built(layer).record(1000.0))
    assert list(damages(store)) == []
    spoil, message = RUINS[ruin]
    spoil(layer.path / META)
    assert store.layers.get(BASE) is None
    assert BASE not in store.layers
    assert list(store.layers) == []
    (damage,) = damages(store)
    assert (damage.kind, damage.key, damage.images) == ("layer", BASE, ("handmade",))
    assert_matches(message, damage)
    aside = repair(store, damage)
    assert aside is not None
    assert aside.parent == store.folder("damaged")
    assert not layer.path.exists()
    assert repair(store, damage) is None
    assert list(damages(store)) == []
    # and the key is free
    assert counted(images).path == layer.path


def assert_matches(pattern: str, damage: Damage) -> None:
    with pytest.raises(ValueError, match=pattern):
        raise ValueError(damage.text)


#: half a tree, and less than that
CHANGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "a file is gone": (lambda tree: (tree / "etc/one").unlink(), "it had 5 files and folders, and"),
    "a folder is gone": (lambda tree: disk.delete(tree / "etc"), "it had 5 files and folders, and"),
    "a file is empty": (lambda tree: os.truncate(tree / "etc/one", 0), "its files are others"),
    "other permissions": (lambda tree: (tree / "etc/one").chmod(0o600), "its files are others"),
    "another time": (lambda tree: os.utime(tree / "etc", ns=(1, 1)), "its files are others"),
    "another link": (
        lambda tree: run("ln -sfn x $0/etc/two", tree),
        "its files are others",
    ),
    "an attribute": (
        lambda tree: os.setxattr(tree / "etc/one", "user.note", b"x"),
        "its files are others",
    ),
    "a copy instead of a hard link": (
        lambda tree: run("cp --preserve=all --remove-destination $0/etc/one $0/etc/three", tree),
        "its files are others",
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_layer_whose_files_are_others_is_found_without_reading_them(
    images: Images, change: str
) -> None:
    layer = counted(images)
    alter, message = CHANGES[change]
    alter(layer.tree)
    (damage,) = damages(images.store)
    assert damage.text.startswith(message)
    assert damage.name == f"{BASE} ({BASE[:12]})"
    assert repair(images.store, damage) is not None
    assert BASE not in images.store.layers


def test_layer_of_an_earlier_version_has_nothing_to_compare(images: Images) -> None:
    layer = images.layer(BASE, script=SCRIPT)
    (layer.tree / "etc/one").unlink()
    assert list(damages(images.store)) == []


def test_layers_that_stand_on_each_other_are_no_chain(images: Images) -> None:
    images.layer(BASE)
    images.layer(ABOVE, [images.layer("d" * 32)])
    for key, parent in ((BASE, ABOVE), (ABOVE, BASE)):
        edited(lambda r, parent=parent: r.update(parent=parent))(  # type: ignore[misc]
            images.store.layers.path(key) / META
        )
    assert images.store.layers.chain(BASE) is None


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "3", '{"key": 1}', '{"layers": 3, "key": "k", "name": "n"}', "[" * 10**5],
)
def test_records_and_outcomes_that_are_damaged_are_told_and_removed(
    images: Images, text: str
) -> None:
    store = images.store
    store.records.path(BASE).write_text(text)
    store.outcomes.path(ABOVE).write_text(text if text != "[]" else "[3]")
    assert store.records.get(BASE) is None
    assert list(store.records) == []
    assert list(store.outcomes.of(ABOVE)) == []
    every = list(damages(store))
    assert [(damage.kind, damage.key) for damage in every] == [
        ("record", BASE),
        ("outcome", ABOVE),
    ]
    assert [repair(store, damage) for damage in every] == [None, None]
    assert list(damages(store)) == []


def test_damaged_layer_is_not_deleted_while_any_image_is_in_use(images: Images) -> None:
    base = counted(images)
    above = images.layer(ABOVE, [base])
    (base.path / META).write_text("{")
    (damage,) = damages(images.store)
    aside = repair(images.store, damage)
    assert aside is not None
    user = Store(images.store.root)  # as a machine above it does, which holds the top only
    assert user.hold(above.key)
    assert not [gone for gone in collect(images.store, older_than_s=1e9) if "damaged" in gone.name]
    assert (aside / "tree/etc/one").read_text() == "one\n"
    user.release()
    gone = [row.name for row in collect(images.store, older_than_s=1e9)]
    assert f"damaged ({BASE[:12]})" in gone
    assert not aside.exists()


def test_damaged_layer_that_is_held_itself_is_not_deleted(images: Images) -> None:
    base = counted(images)
    with Holding() as holding:
        assert holding.add(base.path)
        (base.path / META).write_text("{")
        (damage,) = damages(images.store)
        aside = repair(images.store, damage)
        assert aside is not None
        collect(images.store, older_than_s=1e9)
        assert aside.exists()
    collect(images.store, older_than_s=1e9)
    assert not aside.exists()


# a power cut


def test_layer_is_on_the_disk_before_it_has_its_name(
    images: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    path = images.store.layers.path(BASE)

    def settle(folder: Path) -> None:
        assert not path.exists()
        assert (folder / META).exists()
        assert (folder / "tree/etc/one").exists()
        calls.append("files")

    def settle_names(folder: Path) -> None:
        assert (path / META).exists()
        assert folder == path.parent
        calls.append("name")

    monkeypatch.setattr(disk, "settle", settle)
    monkeypatch.setattr(disk, "settle_names", settle_names)
    images.layer(BASE, script=SCRIPT)
    assert calls == ["files", "name"]


def test_small_files_are_on_the_disk_before_they_have_their_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    sync, replace_ = os.fsync, Path.replace

    def fsync(fd: int) -> None:
        calls.append(Path(f"/proc/self/fd/{fd}").readlink().name.partition(".")[0])
        sync(fd)

    def renamed(self: Path, target: Path) -> Path:
        calls.append("renamed")
        return replace_(self, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "replace", renamed)
    disk.write_atomically(tmp_path / "record.json", "{}")
    assert calls == ["record", "renamed", tmp_path.name]


def test_file_system_is_brought_to_its_disk(tmp_path: Path) -> None:
    disk.settle(tmp_path)
    with pytest.raises(FileNotFoundError):
        disk.settle(tmp_path / "none")


def test_layers_of_no_store_are_not_damaged(tmp_path: Path) -> None:
    assert Layers(tmp_path / "none").damaged() == []
    assert Layers(tmp_path / "none").damage(BASE) == ""
