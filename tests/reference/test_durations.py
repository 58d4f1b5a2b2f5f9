"""Durations as people write them."""

from __future__ import annotations

import pytest

from pytest_carthage.reference.durations import duration_s


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("45s", 45.0),
        ("90m", 5400.0),
        ("8h", 28800.0),
        ("2d", 172800.0),
        ("1d12h", 129600.0),
        ("0.5h", 1800.0),
        ("1h0.5s", 3600.5),
    ],
)
def test_duration_is_read_in_seconds(text: str, seconds: float) -> None:
    assert duration_s(text) == seconds


@pytest.mark.parametrize("text", ["", "8", "h", "8 h", "8h ", "-1h", "1w", "1,5h", "0s", "0h0m"])
def test_text_that_is_no_duration_is_refused_with_how_to_write_it(text: str) -> None:
    with pytest.raises(ValueError, match="is no duration; write a number and a unit") as caught:
        duration_s(text)
    assert str(caught.value).startswith(f"{text!r} ")
