"""Sums of times of which some may not be known."""

from __future__ import annotations

import pytest

from pytest_carthage.cli.plan.times import Expected, about, columns


def test_times_add_up_and_those_that_are_unknown_are_counted() -> None:
    assert Expected.of([1.5, None, 2.0, None]) == Expected(seconds=3.5, unknown=2)
    assert Expected.of([]) == Expected(seconds=0.0, unknown=0)


def test_what_is_done_at_once_takes_as_long_as_the_longest() -> None:
    parts = [Expected(seconds=3, unknown=1), Expected(seconds=5), Expected(unknown=1)]
    assert Expected.longest(parts) == Expected(seconds=5, unknown=2)
    assert Expected.longest([]) == Expected()


def test_what_is_done_in_turn_takes_the_sum() -> None:
    parts = iter([Expected(seconds=3, unknown=1), Expected(seconds=5)])
    assert Expected.whole(parts) == Expected(seconds=8, unknown=1)


@pytest.mark.parametrize(
    ("expected", "text"),
    [
        (Expected(), "0.00 s"),
        (Expected(seconds=12), "12 s"),
        (Expected(unknown=3), "3 never timed"),
        (Expected(seconds=75, unknown=1), "1 min 15 s, and 1 never timed"),
    ],
)
def test_expected_time_says_what_is_not_known(expected: Expected, text: str) -> None:
    assert str(expected) == text


def test_expected_time_stands_behind_what_it_is_of() -> None:
    assert about(None) == ""
    assert about(2.5) == " (about 2.50 s)"


def test_columns_are_aligned() -> None:
    assert list(columns([("web", "netns"), ("database", "podman")])) == [
        "    web       netns",
        "    database  podman",
    ]
    assert list(columns([])) == []
