"""Whatever stands in a lab, it is taken, listed, or a mistake with a place: never another error."""

from __future__ import annotations

import copy
import re
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from pytest_carthage import Image, Layout, LayoutError
from tests.labs.conftest import CAMPUS, CLOS, SHOP

DEBIAN = Image.debian("bookworm", name="debian")
ODD: list[Any] = [None, -0.5, "a:b", [], ["x"], {"a": {}}, [[1]]]


class AnyImage(dict[str, Image]):
    """Has an image for each reference."""

    def __contains__(self, key: object) -> bool:
        return True

    def __missing__(self, key: str) -> Image:
        return DEBIAN


def changed(document: Any) -> Iterator[tuple[str, Any]]:
    """A document with one value replaced by each odd one, and where."""

    def paths(value: Any, way: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
        if way:
            yield way
        if isinstance(value, dict | list):
            for key in value if isinstance(value, dict) else range(len(value)):
                yield from paths(value[key], (*way, key))

    for way in paths(document, ()):
        for odd in ODD:
            whole = copy.deepcopy(document)
            inner = whole
            for key in way[:-1]:
                inner = inner[key]
            inner[way[-1]] = odd
            yield f"{way} = {odd!r}", whole


def attempt(read: Any, subject: Path, what: str) -> None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made = read(subject, images=AnyImage())
    except Exception as error:
        has_place = re.search(r"declared at .*:\d+|no file", str(error))
        if not isinstance(error, LayoutError) or not has_place:
            raise AssertionError(f"{what}: {type(error).__name__}: {error}") from error
    else:
        assert issubclass(made, Layout)


@pytest.mark.parametrize("path", [CLOS, SHOP], ids=lambda path: path.name)
def test_odd_value_in_yaml_is_no_other_error(path: Path, tmp_path: Path) -> None:
    shutil.copytree(path.parent, tmp_path / "lab")
    read = Layout.from_containerlab if path is CLOS else Layout.from_compose
    for what, document in changed(yaml.safe_load(path.read_text())):
        subject = tmp_path / "lab" / path.name
        subject.write_text(yaml.safe_dump(document))
        attempt(read, subject, what)


def test_odd_line_in_a_conf_is_no_other_error(tmp_path: Path) -> None:
    shutil.copytree(CAMPUS, tmp_path / "lab")
    for text in (
        "",
        "x",
        "=",
        "a=",
        "a[0]",
        "a[0]=",
        "[0]=A",
        "a[mem]=",
        "a[cpus]=x",
        "a[env]=1",
        'a[0]="',
        "a[0]=A/1",
        "a[sysctl]=",
        "a[image]=",
        "LAB_X=1",
        "a[0]=A\na[0]=B",
    ):
        (tmp_path / "lab" / "lab.conf").write_text(f"{text}\nb[0]=A\n")
        attempt(Layout.from_kathara, tmp_path / "lab", text)
