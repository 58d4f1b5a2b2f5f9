"""The suite of a delivered system, with artifacts and services that are broken."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.unprivileged import REPOSITORY

pytestmark = [pytest.mark.real, pytest.mark.timeout(900)]

PYTEST = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--carthage-strict"]
SUITE = REPOSITORY / "example_suites" / "deployment"


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    """A copy to break."""
    return shutil.copytree(SUITE, tmp_path / "suite", ignore=shutil.ignore_patterns("dist"))


def run(*words: str, cwd: Path) -> tuple[int, str]:
    """Run pytest; returns its status and what it printed."""
    done = subprocess.run(
        [*PYTEST, *words], cwd=cwd, capture_output=True, text=True, timeout=800, check=False
    )
    return done.returncode, done.stdout + done.stderr


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert text.count(old) == 1, old
    file.write_text(text.replace(old, new))


def phases(printed: str) -> set[str]:
    """Whatever became of them, the suite tells how long its phases took."""
    return set(re.findall(r"^(\w[\w ]+?) +[0-9.]+ s$", printed, re.MULTILINE))


def test_broken_artifact_is_told_by_who_builds_it_and_blocks_what_needs_it(suite: Path) -> None:
    edit(suite / "service" / "control.j2", "Maintainer: ", "Maintainer ")
    status, printed = run("-ra", "test_delivery.py", cwd=suite)
    assert status == 1
    assert "image 'workbench', layer 2 of 2: task 'build the package' of role Workbench" in printed
    assert "dpkg-deb: error: parsing file '/build/tree/DEBIAN/control' near line 4" in printed
    assert "field name 'Maintainer' must be followed by colon" in printed
    assert not list((suite / "dist").iterdir())
    assert "1 error" in printed
    assert "blocked by image 'workbench'" in printed


def test_artifact_that_cannot_be_installed_is_told_by_the_application(suite: Path) -> None:
    edit(suite / "service" / "control.j2", "Depends: python3", "Depends: python4")
    status, printed = run("test_delivery.py", "-k", "application", cwd=suite)
    assert status == 1
    assert "task 'install the artifact' of role Application" in printed
    assert "shop depends on python4" in printed


def test_patch_that_does_not_apply_is_told_and_the_version_before_is_not_concerned(
    suite: Path,
) -> None:
    edit(suite / "patches" / "greeting.patch", '-            "greeting": "Welcome",', "-    none")
    status, printed = run("test_update.py", "-k", "small", cwd=suite)
    assert status == 1
    assert "task 'build the package'" in printed
    assert "1 out of 1 hunk FAILED" in printed
    assert {path.name for path in (suite / "dist").iterdir()} == {"shop_1.0_all.deb"}
    assert phases(printed) == {"artifact", "base image", "application image", "update"}


def test_service_that_dies_is_told_with_its_last_words(suite: Path) -> None:
    edit(suite / "conftest.py", '(port(settings["port"]))', "(port(8080), timeout_s=5)")
    edit(suite / "service" / "shop.py", 'SETTINGS["port"]', 'SETTINGS["prot"]')
    status, printed = run("test_delivery.py", "-k", "answers", cwd=suite)
    assert status == 1
    assert "no port 8080 after 5 s" in printed
    assert "KeyError: 'prot'" in printed
    told = {"artifact", "base image", "application image", "hosts", "container"}
    assert phases(printed) == told
    page = (REPOSITORY / "docs/tutorial/deployment.md").read_text()
    (shown,) = re.findall(r"```text\n(=+ phases .*?)```", page, re.DOTALL)
    assert phases(shown) == told
