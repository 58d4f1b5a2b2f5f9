"""Short forms of long texts."""

from __future__ import annotations

import pytest

from pytest_carthage.handles.excerpts import beginning, ending, listed


@pytest.mark.parametrize(
    ("text", "first", "last"),
    [
        ("", "''", "''"),
        ("short\n", r"'short\n'", "'short'"),
        ("x" * 18, f"'{'x' * 18}'", f"'{'x' * 18}'"),
        ("a" + "x" * 30 + "z", f"'a{'x' * 14}...'", f"'...{'x' * 14}z'"),
        ("it's", '"it\'s"', '"it\'s"'),
    ],
)
def test_long_texts_lose_their_end_or_beginning(text: str, first: str, last: str) -> None:
    assert beginning(text, 20) == first
    assert ending(text, 20) == last


def test_first_names_are_listed_and_the_rest_is_counted() -> None:
    assert listed([], most=2) == ""
    assert listed(["a", "b"], most=2) == "a, b"
    assert listed(["a", "b", "c", "d"], most=2) == "a, b, and 2 more"
