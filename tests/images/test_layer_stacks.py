"""Layers of OCI images, one above the other: what podman makes of them, we make of them, too."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path
from typing import Any

import pytest

from pytest_carthage.errors import BuildError
from pytest_carthage.images.bases.tools import check_tools
from pytest_carthage.images.exports.tools import check_tools as check_podman
from tests.support.layer_stacks import (
    Facts,
    Members,
    Stack,
    by_podman,
    differences,
    look,
    members_of,
    unpacked,
    write_layout,
)

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(os.geteuid() != 0, reason="compares owners and devices; run as root"),
]

SEEDS = range(60)


@pytest.fixture(autouse=True)
def _tools() -> None:
    if problems := [*check_tools(["oci"]), *check_podman(["podman"])]:
        pytest.skip("; ".join(map(str, problems)))


def ours(layers: list[Members], folder: Path) -> Facts:
    return look(unpacked(write_layout(folder / "layout", layers), folder / "work"))


def test_random_layers_are_what_podman_makes_of_them(tmp_path: Path) -> None:
    stacks = [Stack(seed, f"stack{seed}") for seed in SEEDS]
    layers = members_of(stacks)
    facts = ours(layers, tmp_path)
    assert len(facts) > 10 * len(stacks)
    theirs = by_podman(f"oci:{tmp_path}/layout:latest", tmp_path / "podman")
    assert list(differences(facts, theirs, stacks)) == []


def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "", **more: Any) -> Any:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mtime = kind, target, 10**9
    info.mode = 0o755 if kind == tarfile.DIRTYPE else 0o644
    for key, value in more.items():
        setattr(info, key, value)
    data = b"x" if kind == tarfile.REGTYPE and ".wh." not in name else b""
    info.size = len(data)
    return info, data


def folder(name: str) -> Any:
    return member(name, tarfile.DIRTYPE)


def link(name: str, target: str) -> Any:
    return member(name, tarfile.SYMTYPE, target)


def hard(name: str, target: str) -> Any:
    return member(name, tarfile.LNKTYPE, target)


#: what is there then, of layers that podman takes, too
SAME: dict[str, tuple[list[Members], set[str]]] = {
    "an opaque folder replaces a link": (
        [
            [folder("etc"), folder("etc/on"), member("etc/on/site"), link("etc/off", "on")],
            [folder("etc"), folder("etc/off"), member("etc/off/.wh..wh..opq"), member("etc/off/n")],
        ],
        {"etc", "etc/on", "etc/on/site", "etc/off", "etc/off/n"},
    ),
    "an opaque folder replaces an absolute link": (
        [
            [folder("srv"), member("srv/page"), folder("var"), link("var/www", "/srv")],
            [folder("var"), folder("var/www"), member("var/www/.wh..wh..opq")],
        ],
        {"srv", "srv/page", "var", "var/www"},
    ),
    "a folder with a deletion replaces a link": (
        [
            [folder("data"), member("data/old"), link("alias", "data")],
            [folder("alias"), member("alias/.wh.old")],
        ],
        {"data", "data/old", "alias"},
    ),
    "a file in what is a link below": (
        [[folder("a"), member("a/old"), link("l", "a")], [member("l/x")]],
        {"a", "a/old", "l", "l/x"},
    ),
    "a link on the way in its own layer": (
        [[folder("a"), folder("a/b"), link("l", "a/b"), member("l/x")]],
        {"a", "a/b", "a/b/x", "l"},
    ),
    "a link up on the way in its own layer": (
        [[folder("a"), folder("a/b"), link("a/b/l", "../../../../a"), member("a/b/l/x")]],
        {"a", "a/b", "a/b/l", "a/x"},
    ),
    "a hard link by a link": (
        [[folder("a"), member("a/f"), link("l", "a"), hard("h", "l/f")]],
        {"a", "a/f", "l", "h"},
    ),
    "a hard link of a link": ([[member("f"), link("l", "f"), hard("h", "l")]], {"f", "l", "h"}),
    "a deletion, and one below it": (
        [[folder("a"), member("a/x")], [member(".wh.a"), member("a/.wh.x")]],
        set(),
    ),
    "a deletion, and a file in its place": (
        [[folder("a"), member("a/x")], [member(".wh.a"), member("a")]],
        {"a"},
    ),
    "absolute names": (
        [[folder("/a"), member("/a/x")], [folder("/a"), member("/a/.wh.x")]],
        {"a"},
    ),
    "a folder becomes a file, and a folder again": (
        [[folder("a"), member("a/x")], [member("a")], [folder("a"), member("a/y")]],
        {"a", "a/y"},
    ),
}


@pytest.mark.parametrize("case", SAME)
def test_layers_are_what_podman_makes_of_them(case: str, tmp_path: Path) -> None:
    layers, names = SAME[case]
    facts = ours(layers, tmp_path)
    assert facts.keys() == names
    if len(names) and case != "a file in what is a link below":
        theirs = by_podman(f"oci:{tmp_path}/layout:latest", tmp_path / "podman")
        assert facts == theirs


#: where the specification says something, and podman another thing or nothing
OTHERWISE: dict[str, tuple[list[Members], set[str]]] = {
    # podman shows what was in it below
    "a deletion, and a folder in its place": (
        [[folder("a"), member("a/old")], [member(".wh.a"), folder("a"), member("a/new")]],
        {"a", "a/new"},
    ),
    # podman takes no layer that names a file before it deletes that of below
    "a folder, and then its deletion": (
        [[folder("a"), member("a/old")], [folder("a"), member("a/new"), member(".wh.a")]],
        {"a", "a/new"},
    ),
    "a file, and then its deletion": ([[folder("a")], [member("a"), member(".wh.a")]], {"a"}),
    # podman takes no hard link to what is in a layer below
    "a hard link to what is below": ([[member("a")], [hard("b", "a")]], {"a", "b"}),
    "a file as a folder": ([[member("a"), member("a/x")]], {"a", "a/x"}),
    "a link to nothing on the way": (
        [[link("l", "a/b"), member("l/x")]],
        {"l", "a", "a/b", "a/b/x"},
    ),
}


@pytest.mark.parametrize("case", OTHERWISE)
def test_layers_that_podman_takes_otherwise(case: str, tmp_path: Path) -> None:
    layers, names = OTHERWISE[case]
    assert ours(layers, tmp_path).keys() == names


def test_folder_of_which_a_layer_says_nothing_stays_as_it_is(tmp_path: Path) -> None:
    below = member("a", tarfile.DIRTYPE, mode=0o700, uid=5, gid=6)
    facts = ours([[below, member("a/x")], [member("a/y")]], tmp_path)
    assert (facts["a"]["mode"], facts["a"]["owner"]) == (0o700, [5, 6])
    assert facts["a"]["mtime_ns"] == 10**18
    assert facts.keys() == {"a", "a/x", "a/y"}


@pytest.mark.parametrize(
    ("layer", "said"),
    [
        ([member("a/../../b")], "a layer has a file that is nowhere: a/../../b"),
        ([hard("a", "../../b")], "a layer has a file that is nowhere: ../../b"),
        ([hard("a", "b")], "a layer has a as a hard link to b: No such file or directory"),
        (
            [folder("d"), hard("a", "d")],
            "a layer has a as a hard link to d: Operation not permitted",
        ),
        ([member("a", b"V")], "a layer has something of an unknown kind: /a"),
        (
            [link("a", "b"), link("b", "a"), member("a/x")],
            "Too many levels of symbolic links: '/a'",
        ),
    ],
)
def test_layer_that_leads_elsewhere_is_refused(layer: Members, said: str, tmp_path: Path) -> None:
    with pytest.raises(BuildError) as caught:
        ours([layer], tmp_path)
    assert said in str(caught.value)


def test_overlays_own_attributes_are_no_images_to_say(tmp_path: Path) -> None:
    headers = {"SCHILY.xattr.user.overlay.opaque": "y", "SCHILY.xattr.user.note": "kept"}
    tree = unpacked(
        write_layout(tmp_path / "layout", [[member("a", tarfile.DIRTYPE, pax_headers=headers)]]),
        tmp_path / "work",
    )
    assert os.listxattr(tree / "a") == ["user.note"]
