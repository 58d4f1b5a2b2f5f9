"""Signals, as images say them."""

from __future__ import annotations

import re

import pytest

from pytest_carthage.model.stop_signal import signal_number


@pytest.mark.parametrize(
    ("name", "number"),
    [("SIGQUIT", 3), ("QUIT", 3), ("15", 15), ("SIGRTMIN+3", 37), ("sigterm", 15)],
)
def test_signal_is_read_as_images_say_it(name: str, number: int) -> None:
    assert signal_number(name) == number


@pytest.mark.parametrize("name", ["SIGNOTHING", "", "SIGRTMIN+", "-9"])
def test_signal_that_there_is_not_is_told(name: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f"STOPSIGNAL {name!r} of its image is no")):
        signal_number(name)
