"""A product's own suite, outside this repository, on top of the installed wheel."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from tests.support.unprivileged import REPOSITORY

pytestmark = [pytest.mark.real, pytest.mark.timeout(900)]

PRODUCT = Path(__file__).parent / "product"


def run(argv: list[str | Path], cwd: Path) -> str:
    """Run a program apart from this repository and from the Python that runs this test."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL"))}
    done = subprocess.run(
        argv, cwd=cwd, env=environment, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    run([sys.executable, "-m", "build", "--wheel", "--outdir", folder, REPOSITORY], folder)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a fresh virtual environment with the wheel installed."""
    folder = tmp_path_factory.mktemp("venv")
    venv.create(folder, with_pip=True)
    interpreter = folder / "bin" / "python"
    run([interpreter, "-m", "pip", "install", "--quiet", f"{wheel}[podman,ansible]"], folder)
    return interpreter


def test_wheel_holds_what_is_data(wheel: Path, tmp_path: Path) -> None:
    shutil.unpack_archive(wheel, tmp_path, "zip")
    shop = tmp_path / "pytest_carthage_fixtures" / "shop"
    assert (shop / "exports" / "shop.sql.gz").is_file()
    assert (shop / "ansible" / "roles" / "webshop" / "files" / "webshop.py").is_file()
    assert (tmp_path / "pytest_carthage" / "py.typed").is_file()
    top = {path.name for path in tmp_path.iterdir() if not path.name.endswith(".dist-info")}
    assert top == {"pytest_carthage", "pytest_carthage_fixtures"}


def test_product_suite_reuses_the_shop_in_four_lines(python: Path, tmp_path: Path) -> None:
    code = (PRODUCT / "conftest.py").read_text().splitlines()
    assert len([line for line in code if line]) == 4
    suite = shutil.copytree(PRODUCT, tmp_path / "product")
    pytest_of_product: list[str | Path] = [python, "-m", "pytest", "--carthage-strict"]
    assert "1 passed" in run(pytest_of_product, suite)
