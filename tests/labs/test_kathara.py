"""Labs of Kathará as layouts."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_carthage import File, Image, Layout, LayoutError
from pytest_carthage.planning import make_plan
from tests.labs.conftest import CAMPUS

BASE = Image.debian("bookworm", name="base")


@pytest.fixture(scope="module")
def campus() -> type[Layout]:
    with pytest.warns(UserWarning, match=r"lab\.conf:10: machine 'pc2': port is not taken"):
        return Layout.from_kathara(CAMPUS, images={"kathara/base": BASE})


def lab(folder: Path, conf: str, **files: str) -> Path:
    (folder / "lab.conf").write_text(conf)
    for name, text in files.items():
        (folder / name.replace("_", ".")).write_text(text)
    return folder


def test_domains_are_networks_and_scripts_declare_addresses(campus: type[Layout]) -> None:
    plan = make_plan(campus)
    assert campus.__name__ == "Campus"
    assert sorted(campus.networks()) == ["a", "b"]
    assert list(plan.machines) == ["pc1", "r1", "pc2"]
    assert [str(link.address) for link in plan.machines["r1"].links] == [
        "10.1.0.1/24",
        "10.2.0.1/24",
    ]
    assert plan.machines["pc1"].links[0].mac == "02:00:00:00:00:01"
    assert str(plan.machines["pc2"].links[0].gateway) == "10.2.0.1"
    assert plan.machines["pc2"].after == ("r1",)
    assert dict(campus.machines()["pc2"].env) == {"COLOUR": "green"}


def test_folder_of_a_machine_is_put_over_its_root(campus: type[Layout]) -> None:
    image = campus.machines()["r1"].image
    assert image is not None
    assert [(one.source.name, one.target) for one in image.contents if isinstance(one, File)] == [
        ("r1", "/")
    ]


def test_script_goes_on_as_one_where_lines_depend_on_each_other(tmp_path: Path) -> None:
    folder = lab(
        tmp_path,
        "a[0]=N\n",
        a_startup="#!/bin/sh\n# first\ntouch /x\nip link set dev eth0 up\nN=1\nfor i in $N; do\n"
        " touch /$i\ndone\n",
    )
    made = Layout.from_kathara(folder, images={"kathara/base": None})
    (startup,) = made.machines()["a"].roles
    assert getattr(startup, "commands", ()) == (
        "touch /x",
        "N=1\nfor i in $N; do\n touch /$i\ndone",
    )


@pytest.mark.parametrize(
    ("conf", "message"),
    [
        ("a[0]=N\nnonsense\n", r"lab\.conf: 'nonsense' is no option of a machine; .*lab\.conf:2"),
        ('a[0]="N\n', r"lab\.conf: .*No closing quotation; declared at .*lab\.conf:1"),
        ("a[0]=N/x\n", r"machine 'a': 'N/x' is no collision domain; declared at .*lab\.conf:1"),
        ("a[0]=N\na[mem]=x\n", r"machine 'a': mem 'x' is no amount .*lab\.conf:2; try: 512m"),
    ],
)
def test_mistake_is_told_with_file_and_line(tmp_path: Path, conf: str, message: str) -> None:
    with pytest.raises(LayoutError, match=message):
        Layout.from_kathara(lab(tmp_path, conf), images={"kathara/base": None})


def test_folder_without_a_lab_says_so(tmp_path: Path) -> None:
    with pytest.raises(LayoutError, match=r"lab\.conf: .*No such file.*try: a folder with a lab"):
        Layout.from_kathara(tmp_path)


def test_files_without_an_image_to_put_them_into_are_refused() -> None:
    with pytest.raises(LayoutError, match=r"image 'kathara/base': images= has None for it, and 1"):
        Layout.from_kathara(CAMPUS, images={"kathara/base": None})


def test_what_is_beside_it_is_listed(tmp_path: Path) -> None:
    folder = lab(tmp_path, "a[0]=N\na[bridged]=true\na[colour]=red\n", a_shutdown="true\n")
    with pytest.warns(UserWarning, match="not all of it") as warned:
        made = Layout.from_kathara(folder, images={"kathara/base": None})
    assert len(warned) == 1
    assert [str(remark) for remark in made.not_taken] == [
        "a.shutdown:1: a.shutdown is not taken",
        "lab.conf:2: machine 'a': bridged is not taken: a gate lets something out",
        "lab.conf:3: machine 'a': colour is not understood",
    ]
