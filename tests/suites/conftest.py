"""Suites that are run in other processes, apart from this repository's own tests."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.unprivileged import REPOSITORY

collect_ignore = ["product", "crowded_host"]


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this repository."""
    folder = tmp_path_factory.mktemp("dist")
    uv("build", "--wheel", "--quiet", "--out-dir", folder, REPOSITORY)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="session")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a fresh virtual environment, in which is what the README installs."""
    folder = tmp_path_factory.mktemp("venv")
    uv("venv", "--quiet", "--python", sys.executable, folder / "venv")
    interpreter = folder / "venv" / "bin" / "python"
    uv("pip", "install", "--quiet", "--python", interpreter, f"{wheel}[podman,ansible,testinfra]")
    return interpreter


def uv(*words: str | Path) -> None:
    """As pip does, in a tenth of its time."""
    done = subprocess.run(
        [sys.executable, "-m", "uv", *words],
        env={k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL"))},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
