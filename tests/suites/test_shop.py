"""The shop's suite, as users run it: twice at the same time on one machine."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.support.unprivileged import REPOSITORY

pytestmark = [pytest.mark.real, pytest.mark.timeout(900)]

PYTEST = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--carthage-strict"]


def test_shop_twice_at_the_same_time_passes() -> None:
    both = [
        subprocess.Popen(
            [*PYTEST, "--timeout=600", "example_suites/shop"],
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for _ in range(2)
    ]
    for process in both:
        printed, _ = process.communicate(timeout=800)
        assert process.returncode == 0, printed
