"""What is no request ends its own connection alone; tried by an ordinary user."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_carthage.fabric.host.privilege import user_namespace_problems
from tests.support.unprivileged import REPOSITORY, as_user


@pytest.fixture
def home() -> Iterator[Path]:
    # pytest's own temporary folder is closed to others
    folder = Path(tempfile.mkdtemp(prefix="garbage-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.real
def test_garbage_harms_nobody_but_who_sends_it(home: Path) -> None:
    if problems := user_namespace_problems():
        pytest.skip("; ".join(map(str, problems)))
    options = ["-p", "no:cacheprovider", "-p", "no:xdist", "-q", f"--basetemp={home / 'tests'}"]
    options += ["-c", "tests/pytest.ini", f"--rootdir={REPOSITORY}"]
    done = subprocess.run(
        as_user([sys.executable, "-m", "pytest", *options, "tests/fabric/garbage.py"], home=home),
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 passed" in done.stdout
