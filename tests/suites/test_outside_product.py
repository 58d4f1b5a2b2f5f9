"""What users have: the installed wheel, in an environment of its own, beside a clone or without."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.unprivileged import REPOSITORY

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]

LESSONS = list((REPOSITORY / "example_suites").glob("*/README.md"))


def run(python: Path, *words: str | Path) -> str:
    """Run pytest in the clone, apart from the Python that runs this test."""
    done = subprocess.run(
        [python.with_name("pytest"), "-p", "no:cacheprovider", *words],
        cwd=REPOSITORY,
        env={k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL"))},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_wheel_holds_what_is_data(wheel: Path, tmp_path: Path) -> None:
    shutil.unpack_archive(wheel, tmp_path, "zip")
    shop = tmp_path / "pytest_carthage_fixtures" / "shop"
    assert (shop / "exports" / "shop.sql.gz").is_file()
    assert (shop / "ansible" / "roles" / "webshop" / "files" / "webshop.py").is_file()
    assert (tmp_path / "pytest_carthage" / "py.typed").is_file()
    top = {path.name for path in tmp_path.iterdir() if not path.name.endswith(".dist-info")}
    assert top == {"pytest_carthage", "pytest_carthage_fixtures"}


def test_lessons_in_a_clone_need_what_the_readme_installs(installed: Path) -> None:
    first = ("example_suites/first_steps", "example_suites/own_layout")
    assert "9 passed" in run(installed, "--carthage-strict", *first)


def test_pytest_in_a_clone_finds_the_lessons_alone(installed: Path) -> None:
    lines = run(installed, "--collect-only", "-q").splitlines()
    suites = {line.partition("/test_")[0] for line in lines if "::" in line}
    assert suites == {f"example_suites/{path.parent.name}" for path in LESSONS}
