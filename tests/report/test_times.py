"""Times and durations as people read them."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from pytest_carthage.report.times import clock, iso, seconds


@pytest.mark.parametrize(
    ("duration_s", "text"), [(0.0, "0.00 s"), (9.99, "9.99 s"), (59.4, "59 s"), (125, "2 min 05 s")]
)
def test_duration_is_written_as_people_read_it(duration_s: float, text: str) -> None:
    assert seconds(duration_s) == text


@pytest.fixture
def in_karachi(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A place five hours ahead of UTC, without daylight saving time."""
    monkeypatch.setenv("TZ", "XKT-5")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("in_karachi")
def test_time_is_that_of_the_place() -> None:
    assert clock(1_700_000_000.25) == "03:13:20.250"
    assert iso(1_700_000_000.25) == "2023-11-15T03:13:20.250+05:00"
