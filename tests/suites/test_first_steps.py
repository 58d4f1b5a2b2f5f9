"""The first example that a newcomer runs: in a folder of its own, with no configuration."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.unprivileged import REPOSITORY, as_user

pytestmark = pytest.mark.real

PYTEST = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--carthage-strict"]


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that everybody may enter, as pytest's own temporary ones are not."""
    with tempfile.TemporaryDirectory(prefix="first-steps-") as name:
        yield Path(name)


def copy_of(suite: str, folder: Path) -> Path:
    return shutil.copytree(REPOSITORY / "example_suites" / suite, folder / suite)


def run(argv: list[str], cwd: Path) -> str:
    done = subprocess.run(argv, cwd=cwd, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_first_steps_twice_in_a_row_passes(folder: Path) -> None:
    suite = copy_of("first_steps", folder)
    for _ in range(2):
        assert "2 passed" in run(PYTEST, suite)


def test_first_steps_twice_at_the_same_time_passes(folder: Path) -> None:
    suite = copy_of("first_steps", folder)
    both = [subprocess.Popen(PYTEST, cwd=suite, stdout=subprocess.PIPE) for _ in range(2)]
    for process in both:
        printed, _ = process.communicate(timeout=60)
        assert process.returncode == 0, printed.decode()


@pytest.mark.parametrize(
    ("suite", "outcome"), [("first_steps", "2 passed"), ("own_layout", "7 passed")]
)
def test_suite_without_privileges_passes(suite: str, outcome: str, folder: Path) -> None:
    copied = copy_of(suite, folder)
    assert outcome in run(as_user(PYTEST, home=folder), copied)


def test_first_steps_in_workers_of_xdist_passes(folder: Path) -> None:
    suite = copy_of("first_steps", folder)
    assert "2 passed" in run([*PYTEST, "-n", "2"], suite)
