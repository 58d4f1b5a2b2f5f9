"""Keys of values: the same for what means the same, another one for anything else."""

from __future__ import annotations

import datetime
import decimal
import functools
import json
import uuid
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, IntEnum
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pytest_carthage.model.keys.key import Unkeyed, content, digest, function_key, module_of


class Colour(Enum):
    RED = 1
    BLUE = 2
    ODD = object()


class Level(IntEnum):
    LOW = 1


@dataclass(frozen=True)
class Point:
    x: int
    y: int = 0
    note: str = field(default="", compare=False)


@dataclass(frozen=True)
class Other:
    x: int
    y: int = 0


class Told:
    def __init__(self, text: str) -> None:
        self.text = text

    def __content__(self) -> object:
        return ["told", self.text]


VALUES: list[Any] = [
    None,
    True,
    False,
    0,
    1,
    2,
    1.0,
    1.5,
    "",
    "1",
    "a",
    b"a",
    b"",
    [],
    [1],
    [[1]],
    [1, 2],
    [2, 1],
    {"a": 1},
    {"a": 2},
    {1: "a"},
    {"1": "a"},
    {},
    Path("a"),
    Path("/a"),
    Colour.RED,
    Colour.BLUE,
    Colour.ODD,
    Level.LOW,
    Point(1),
    Point(1, 1),
    Other(1),
    Told("x"),
    Told("y"),
    int,
    str,
    Point,
    ip_address("10.0.0.1"),
    ip_network("10.0.0.1/32"),
    ip_interface("10.0.0.1/24"),
    ip_address("fd00::1"),
    datetime.date(2026, 1, 1),
    datetime.timedelta(1),
    decimal.Decimal("1.5"),
    uuid.UUID(int=1),
    functools.partial(int, "1"),
    functools.partial(int, "1", base=2),
]


def test_values_that_mean_something_else_have_another_key() -> None:
    keys = [digest(value) for value in VALUES]
    assert len(set(keys)) == len(VALUES)
    assert all(len(key) == 32 and set(key) <= set("0123456789abcdef") for key in keys)


@pytest.mark.parametrize(
    ("value", "same"),
    [
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        ({"a": 1}, MappingProxyType({"a": 1})),
        ({"a": 1}, OrderedDict(a=1)),
        ({1: "a", "b": 2}, {"b": 2, 1: "a"}),
        ({"a": {"x": 1, "y": 2}}, {"a": {"y": 2, "x": 1}}),
        ({1, 2, 3}, {3, 2, 1}),
        ({"b", "a"}, frozenset({"a", "b"})),
        ([1, 2], (1, 2)),
        (Path("a/b"), PurePosixPath("a/b")),
        (Path("a/./b"), Path("a/b")),
        (Point(1), Point(1, note="told to people alone")),
        ({Point(1): "a"}, {Point(1, note="x"): "a"}),
    ],
)
def test_values_that_mean_the_same_have_one_key(value: Any, same: Any) -> None:
    assert digest(value) == digest(same)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)


def reversed_inside(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: reversed_inside(value[key]) for key in reversed(value)}
    return [reversed_inside(one) for one in value] if isinstance(value, list) else value


@given(value=_JSON)
def test_order_of_mappings_does_not_count_anywhere(value: Any) -> None:
    assert digest(value) == digest(reversed_inside(value))


@given(value=_JSON, other=_JSON)
@example(value=[False], other=[0])  # which Python takes for equal
@example(value={"a": 1, "b": 2}, other={"b": 2, "a": 1})
def test_key_is_the_same_exactly_where_the_value_is(value: Any, other: Any) -> None:
    same = json.dumps(content(value), sort_keys=True) == json.dumps(content(other), sort_keys=True)
    assert (digest(value) == digest(other)) == same


def test_key_is_that_of_earlier_versions() -> None:
    # whoever changes this builds every image of every user anew
    assert digest(["debian", {"a": (1, 2.5, None, True)}, Path("x"), b"\0", Point(1)]) == (
        "df3e6df167e69985d5c713fb9e22401a"
    )


@pytest.mark.parametrize(
    "value",
    [object(), [object()], {"a": object()}, {object(): 1}, Point(object()), iter(())],  # type: ignore[arg-type]
)
def test_value_that_may_be_anything_next_time_has_no_key(value: Any) -> None:
    with pytest.raises(Unkeyed, match=r"\(.*\) cannot be part of a key$"):
        digest(value)


def test_class_with_a_content_of_its_own_is_not_asked_for_that_of_its_objects() -> None:
    assert content(Told) == ["class", "test_key", "Told"]
    assert content(Told("x")) == ["told", "x"]


def test_member_of_an_enumeration_is_told_with_its_value_where_that_has_a_key() -> None:
    assert content(Colour.RED) == ["Colour", "RED", 1]
    assert content(Colour.ODD) == ["Colour", "ODD"]
    assert content(Level.LOW) == ["Level", "LOW", 1]


# paths


@pytest.mark.parametrize(
    ("path", "anchor", "told"),
    [
        ("/srv/app/a", None, "/srv/app/a"),
        ("/srv/app/a", Path("/srv/app"), "a"),
        ("/srv/app", Path("/srv/app"), "."),
        ("/srv/b/c", Path("/srv/app"), "../b/c"),
        ("/etc/b", Path("/srv/app"), "/etc/b"),
        ("a/b", Path("/srv/app"), "a/b"),
        ("/srv/app/a", (), "/srv/app/a"),
        ("/opt/x/a", (Path("/srv/app"), Path("/opt/x")), "a"),
        ("/srv/app/a", (Path("/srv/app"), Path("/srv/app/a")), "a"),
    ],
)
def test_path_near_an_anchor_is_told_from_there(path: str, anchor: Any, told: str) -> None:
    assert content(Path(path), anchor) == ["path", told]


def test_paths_are_told_from_the_anchor_wherever_they_are_in_a_value(tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Copy:
        source: Path

    here, there = tmp_path / "x/here", tmp_path / "y/there"
    for make in (
        lambda folder: [folder / "a"],
        lambda folder: {"a": folder / "a", folder / "b": 1},
        lambda folder: {folder / "a"},
        lambda folder: Copy(folder / "a"),
        lambda folder: functools.partial(Copy, folder / "a"),
    ):
        made: Callable[[Path], object] = make
        assert digest(made(here), here) == digest(made(there), there)
        assert digest(made(here), here) != digest(made(there), here)


# functions


def plain() -> int:
    return 1


def test_module_is_told_by_its_file_and_a_package_by_its_folder() -> None:
    import json

    assert module_of(plain) == "test_key"
    assert module_of(Point) == "test_key"
    assert module_of(json.dumps) == "json"
    assert module_of(json.JSONDecoder) == "decoder"


def test_key_of_a_function_is_that_of_what_it_wraps() -> None:
    @functools.wraps(plain)
    def wrapped() -> int:
        return 2

    assert function_key(wrapped) == function_key(plain)
    assert len(function_key(plain)) == 64


def test_function_is_told_with_what_it_refers_to() -> None:
    factor = 2

    def scaled() -> int:
        return factor

    before = digest(scaled)
    assert digest(scaled) == before
    factor = 3
    assert digest(scaled) != before
