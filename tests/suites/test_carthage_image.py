"""What the suite of a server image says where something in it is wrong."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.unprivileged import REPOSITORY

pytestmark = [pytest.mark.real, pytest.mark.timeout(900)]

PYTEST = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--carthage-strict"]


def run(*words: str, cwd: Path) -> tuple[int, str]:
    """Run pytest; returns its status and what it printed."""
    done = subprocess.run(
        [*PYTEST, *words], cwd=cwd, capture_output=True, text=True, timeout=800, check=False
    )
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    """A copy to break."""
    return shutil.copytree(REPOSITORY / "example_suites" / "carthage_image", tmp_path / "suite")


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert text.count(old) == 1, old
    file.write_text(text.replace(old, new))


def test_variable_that_no_parameter_is_called_is_told_with_its_line(suite: Path) -> None:
    edit(suite / "quotes.service.j2", "quotes.py {{ port }}", "quotes.py {{ prot }}")
    status, printed = run("test_image.py", cwd=suite)
    assert status == 1
    assert "task 'install the unit' of role Server" in printed
    assert "quotes.service.j2:5: 'prot' is undefined" in printed
    assert "port, role, unwanted" in printed


def test_package_that_does_not_exist_is_named(suite: Path) -> None:
    edit(suite / "conftest.py", 'packages = ("python3",)', 'packages = ("pyhton3",)')
    status, printed = run("test_image.py", cwd=suite)
    assert status == 1
    assert "pyhton3" in printed
    assert "layer 2 of 5" in printed


def test_wrong_parameter_is_told_before_anything_is_built(suite: Path) -> None:
    edit(suite / "conftest.py", "    Server(),", '    Server(port="http"),')
    status, printed = run("test_image.py", cwd=suite)
    assert status == 4
    assert "port" in printed
    assert "'http'" in printed
