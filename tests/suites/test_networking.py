"""What ``small-internet.md`` types, without privileges; ``tox -e examples`` runs it by root."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.docs.console import differs, typed_on
from tests.support.unprivileged import REPOSITORY, as_user

pytestmark = pytest.mark.real

PYTEST = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--carthage-strict"]


def run(argv: list[str], cwd: Path) -> str:
    done = subprocess.run(argv, cwd=cwd, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_small_internet_without_privileges_passes_but_for_the_join() -> None:
    # a folder that everybody may enter, as pytest's own temporary ones are not
    with tempfile.TemporaryDirectory(prefix="networking-") as name:
        folder = Path(name)
        suite = shutil.copytree(REPOSITORY / "example_suites" / "networking", folder / "suite")
        printed = run(as_user(PYTEST, home=folder), suite)
        assert "10 passed, 1 skipped" in printed
        page = REPOSITORY / "docs/tutorial/small-internet.md"
        (typed,) = (each for each in typed_on(page) if each.line == "pytest")
        assert not differs(typed.printed, printed)
