"""A layout on a host that has the same addresses itself."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SUITE = Path(__file__).parent / "crowded_host"


@pytest.mark.real
@pytest.mark.skipif(os.geteuid() != 0, reason="makes a network namespace that stands for a host")
def test_layout_with_the_addresses_of_its_host_leaks_neither_way() -> None:
    pytest_there = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--carthage-strict"]
    done = subprocess.run(
        ["unshare", "--net", *pytest_there],
        cwd=SUITE,
        env={**os.environ, "CROWDED_HOST": "a namespace of its own"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "4 passed" in done.stdout, done.stdout + done.stderr
