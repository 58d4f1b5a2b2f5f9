"""What other programs load of this distribution: without a warning, on every Python."""

from __future__ import annotations

import configparser
import os
import subprocess
import sys
import warnings
from collections.abc import Mapping
from importlib.metadata import EntryPoint, distribution, requires
from importlib.util import find_spec
from pathlib import Path

import pytest

import pytest_carthage
from pytest_carthage.planning.targets import GROUP

POINTS = [*distribution("pytest-carthage").entry_points]
SOURCES = sorted(Path(pytest_carthage.__file__).parent.rglob("*.py"))


def test_there_are_a_command_a_plugin_and_targets() -> None:
    groups = {point.group for point in POINTS}
    assert groups == {"console_scripts", "pytest11", "pytest_carthage.providers"}


#: what Ansible imports, in a process of its own, and what acts when it is imported
ELSEWHERE = ("work/ansible/plugins/", "__main__.py")
#: package of an extra to the module that cannot be imported without it
OF_EXTRAS = {"testinfra": "work/files/testinfra_host.py"}


def complaints(*command: str, env: Mapping[str, str] | None = None) -> tuple[int, str]:
    """Status and standard error of a Python for which each warning is an error."""
    done = subprocess.run(
        [sys.executable, "-W", "error", *command],
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        timeout=100,
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize("point", POINTS, ids=lambda point: f"{point.group}-{point.name}")
def test_entry_point_is_loaded_without_a_warning(point: EntryPoint) -> None:
    code = f"import {point.module} as module; module.{point.attr or '__name__'}"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_all_that_is_imported_later_is_so_without_a_warning() -> None:
    root = Path(pytest_carthage.__file__).parent
    names = [str(path.relative_to(root)) for path in SOURCES]
    lacking = tuple(name for extra, name in OF_EXTRAS.items() if find_spec(extra) is None)
    modules = [name for name in names if not name.startswith((*ELSEWHERE, *lacking))]
    dotted = [f"pytest_carthage.{name.removesuffix('.py').replace('/', '.')}" for name in modules]
    assert len(dotted) > 300
    code = f"from importlib import import_module; [import_module(name) for name in {dotted}]"
    assert complaints("-c", code) == (0, "")


def test_pytest_takes_the_plugin_by_its_entry_point_without_a_warning(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text("def test_it(): pass\n")
    options = ["-p", "carthage", "-p", "no:cacheprovider", f"--rootdir={tmp_path}", str(tmp_path)]
    env = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    assert complaints("-m", "pytest", *options, "--carthage-offline", env=env) == (0, "")


def test_command_tells_of_itself_without_a_warning() -> None:
    assert complaints("-m", "pytest_carthage", "--help") == (0, "")


@pytest.mark.parametrize(
    "point", [each for each in POINTS if each.group == GROUP], ids=lambda point: point.name
)
def test_target_is_called_as_its_entry_point(point: EntryPoint) -> None:
    assert point.load()().kind == point.name


def test_sources_compile_without_a_warning() -> None:
    # a warning of the compiler is not seen where byte code is kept
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for path in SOURCES:
            compile(path.read_bytes(), path, "exec", dont_inherit=True)


def test_lowest_pytest_is_tested_as_declared() -> None:
    tox = configparser.ConfigParser(interpolation=None)
    tox.read(Path(__file__).parents[1] / "tox.ini")
    (declared,) = (one for one in requires("pytest-carthage") or () if one.startswith("pytest>="))
    tested = tox["testenv:lowest-pytest"]["deps"].split()
    # pytest>=8 and pytest==8.0.0
    assert declared.replace(">=", "==") + ".0.0" in tested
