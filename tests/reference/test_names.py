"""Names of runs and environments."""

from __future__ import annotations

import re

import pytest

from pytest_carthage.reference import names


def test_new_names_are_three_syllables_and_differ() -> None:
    made = {names.new() for _ in range(50)}
    assert len(made) > 45
    assert all(re.fullmatch("([bdfgklmnprstvz][aeiou]){3}", name) for name in made)
    assert all(names.complaint(name) == "" for name in made)


@pytest.mark.parametrize("name", ["a", "shop", "shop-2", "2", "a-b-c", "x" * names.LONGEST])
def test_good_name_has_no_complaint(name: str) -> None:
    assert names.complaint(name) == ""


@pytest.mark.parametrize("name", ["", "Shop", "a--b", "-a", "a-", "a_b", "a/b", "a.b", "ü", "a\n"])
def test_name_with_other_characters_is_complained_of(name: str) -> None:
    assert names.complaint(name) == (
        "small letters, digits and single dashes between them make a name"
    )


def test_name_that_is_too_long_is_complained_of_with_its_length() -> None:
    assert names.complaint("x" * 33) == "a name of 33 characters; at most 32 go"


@pytest.mark.parametrize(
    ("layout", "worker", "name"),
    [
        ("Shop", None, "run-shop"),
        ("WebShop2", "gw1", "run-webshop2-gw1"),
        ("_Web_Shop_", None, "run-web-shop"),
        ("Läden", None, "run-l-den"),
        ("___", None, "run-layout"),
    ],
)
def test_environment_is_named_after_run_layout_and_worker(
    layout: str, worker: str | None, name: str
) -> None:
    assert names.environment("run", layout, worker=worker) == name
    assert names.complaint(name) == ""
