"""Values of authors: read as plain ones, or refused in words."""

from __future__ import annotations

import enum
import itertools
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest

from pytest_carthage.model.mistakes.value import Unreadable, probed, readable, shown


class Word(enum.StrEnum):
    WEB = "web"


class Level(enum.IntEnum):
    TWO = 2


class Loud(str):
    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        raise AssertionError

    __hash__ = None  # type: ignore[assignment]


class Wordless:
    def __repr__(self) -> str:
        raise KeyError("x")


def circle() -> list[Any]:
    made: list[Any] = []
    made.append(made)
    return made


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (Word.WEB, "web"),
        (Level.TWO, 2),
        (Loud("web"), "web"),
        (True, True),
        (None, None),
        ([Word.WEB, (Level.TWO,)], ["web", (2,)]),
        (OrderedDict(a=Word.WEB), {"a": "web"}),
        (iter("ab"), ("a", "b")),
        ({"a", "b"}, {"a", "b"}),
        (range(3), (0, 1, 2)),
        (b"x", b"x"),
        (Path("/x"), Path("/x")),
        (float("inf"), float("inf")),
    ],
)
def test_value_is_read_as_a_plain_one(value: object, plain: object) -> None:
    read = readable(value)
    assert read == plain
    assert type(read) is type(plain)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("a\0b", r"'a\\x00b' has a null byte, which ends text"),
        (["\ud800"], r"'\\ud800' has half of a surrogate pair, which is no character"),
        ({"a": float("nan")}, "nan is no number that JSON could hold"),
        ([float("-inf")], "-inf is no number that JSON could hold"),
        (10**5000, "a number of 16610 bits is too large"),
        (circle(), "it holds itself, or is nested more than 50 deep"),
        (itertools.count(), "it holds more than 100000 values"),
        (range(10**12), "it holds more than 100000 values"),
        (Path("a\0b"), "has a null byte"),
        ({"k": Wordless()}, "a Wordless cannot be shown: its __repr__ raises KeyError"),
    ],
    ids=list("abcdefghij"),
)
def test_value_that_nobody_could_hold_is_refused(value: object, words: str) -> None:
    with pytest.raises(Unreadable, match=f"{words}"):
        readable(value)


def test_parameter_of_a_role_is_left_as_it_is() -> None:
    numbers = iter([1, 2])
    probed([Word.WEB, numbers])
    assert list(numbers) == [1, 2]
    with pytest.raises(Unreadable, match="null byte"):
        probed([["\0"]])


def test_value_is_shown_whatever_its_class_does() -> None:
    assert shown("a") == "'a'"
    assert shown(Wordless()) == "<a Wordless whose __repr__ raises KeyError>"
    long = shown("x" * 5000)
    assert len(long) <= 300
    assert "..." in long


@pytest.mark.timeout(10)
def test_value_that_has_its_parts_twice_over_is_shown_at_once() -> None:
    doubled: Any = []
    for _ in range(64):
        doubled = [doubled, doubled]
    assert len(shown(doubled)) <= 300
    assert len(shown({"a": doubled, "b": (doubled,) * 60})) <= 300
    assert shown([1, {"b": 2, "a": (3,)}]) == "[1, {'a': (3,), 'b': 2}]"
