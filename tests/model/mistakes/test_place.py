"""Where a declaration stands: on the author's line, whoever has called whom."""

from __future__ import annotations

import dataclasses
import inspect

import pytest

from pytest_carthage import File, Forward, Image, LayoutError, Machine, Network, V4Config, trunk
from pytest_carthage.model.mistakes.mistake import Mistake
from pytest_carthage.model.mistakes.place import Place


def line() -> int:
    """Of whoever calls it."""
    frame = inspect.currentframe()
    assert frame is not None
    assert frame.f_back is not None
    return frame.f_back.f_lineno


def test_place_is_told_as_editors_take_it() -> None:
    assert str(Place(file="conftest.py", line=12)) == "conftest.py:12"


def test_author_is_whoever_calls_where_nobody_is_passed_through() -> None:
    assert Place.of_author() == Place(file=__file__, line=line())


def test_everything_that_is_declared_stands_on_the_authors_line() -> None:
    lan, at = Network("10.0.0.0/24", vlan_id=1), line()
    places = {
        "network": lan.place,
        "configuration": V4Config(gateway=".1").place,
        "short configuration": getattr(lan.at(".1").v4, "place", None),
        "link": lan.at(".1").place,
        "trunk": trunk(lan).place,
        "machine": Machine().place,
        "image": Image.debian("bookworm").place,
        "derived image": Image.debian("bookworm").with_(user="a").place,
        "file": File("a", "/a").place,
        "forward": Forward("wan0", 80, to="web").place,
    }
    assert {place.file for place in places.values() if place is not None} == {__file__}
    lines = [place.line for place in places.values() if place is not None]
    assert lines == [at, *range(at + 3, at + 12)]


def test_copies_stand_where_they_are_made() -> None:
    made = Machine(hostname="a")
    assert dataclasses.replace(made, hostname="b").place.line == line()
    assert made.replace(hostname="b").place.line == line()
    assert made.copied().place == made.place


def test_author_may_have_functions_of_their_own() -> None:
    def lan() -> Network:
        return Network("10.0.0.0/24")

    assert lan().place.line == line() - 2
    assert lan().place == lan().place


def test_module_whose_name_only_begins_alike_is_an_authors() -> None:
    names = {"__name__": "pytest_carthage.modelling", "Place": Place}
    exec(compile("place = Place.of_author()", "theirs.py", "exec"), names)
    assert str(names["place"]) == "theirs.py:1"
    names["__name__"] = "pytest_carthage.model"
    exec(compile("place = Place.of_author()", "ours.py", "exec"), names)
    assert str(names["place"]) == f"{__file__}:{line() - 1}"


def test_mistake_is_told_with_who_where_and_what_to_do() -> None:
    cause = ValueError("because")
    mistake = Mistake(
        what="mtu 12 is too small",
        remedy="mtu=1500",
        place=Place(file="conftest.py", line=3),
        cause=cause,
    )
    error = mistake.error("network 'lan' of layout 'Shop'")
    assert isinstance(error, LayoutError)
    assert str(error) == (
        "network 'lan' of layout 'Shop': mtu 12 is too small; declared at conftest.py:3;"
        " try: mtu=1500"
    )
    assert error.__cause__ is cause


def test_mistakes_are_the_same_whatever_has_caused_them() -> None:
    place = Place(file="conftest.py", line=3)
    mistake = Mistake(what="a", remedy="b", place=place)
    assert mistake == Mistake(what="a", remedy="b", place=place, cause=ValueError())
    assert mistake.error("x").__cause__ is None
    with pytest.raises(dataclasses.FrozenInstanceError):
        mistake.what = "c"  # type: ignore[misc]
