"""Ages and expiries in words."""

from __future__ import annotations

import pytest

from pytest_carthage.report.kept import age, expiry


@pytest.mark.parametrize(
    ("duration_s", "text"),
    [
        (-3, "0 s"),
        (0.4, "0 s"),
        (12, "12 s"),
        (60, "1 min"),
        (3599, "59 min 59 s"),
        (28740, "7 h 59 min"),
        (86400 + 61, "1 d"),
        (2 * 86400 + 3 * 3600 + 59, "2 d 3 h"),
    ],
)
def test_age_has_its_two_largest_units(duration_s: float, text: str) -> None:
    assert age(duration_s) == text


def test_expiry_tells_what_becomes_of_an_environment() -> None:
    assert expiry(kept=False, expires_at=None) == "ends with its owner"
    assert expiry(kept=True, expires_at=None) == "stays until it is removed"
    assert expiry(kept=True, expires_at=5400, now_s=0).startswith("stays for 1 h 30 min (until ")
    assert expiry(kept=True, expires_at=5, now_s=10).startswith("stays for 0 s ")
