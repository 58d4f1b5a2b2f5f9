"""What importing the package costs."""

from __future__ import annotations

import subprocess
import sys

import pytest

import pytest_carthage

HEAVY = {"pytest", "_pytest", "asyncio", "asyncssh", "pyroute2", "rich", "testinfra", "podman"}


def modules_after(statement: str) -> set[str]:
    code = f"{statement}\nimport sys\nprint('\\n'.join(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60
    )
    return set(done.stdout.split())


def test_import_of_the_package_imports_nothing_of_it() -> None:
    loaded = modules_after("import pytest_carthage")
    assert [name for name in loaded if name.startswith("pytest_carthage.")] == []
    assert not loaded & HEAVY


def test_import_of_the_model_and_planning_imports_nothing_heavy() -> None:
    names = "Layout, Network, Machine, Image, Role, Limits, stage, port"
    loaded = modules_after(
        f"from pytest_carthage import {names}\nimport pytest_carthage.planning"
        "\nimport pytest_carthage.roles, pytest_carthage.report.drawing"
    )
    assert not loaded & HEAVY


@pytest.mark.parametrize("name", pytest_carthage.__all__)
def test_public_name_is_there_and_documented(name: str) -> None:
    assert getattr(pytest_carthage, name).__doc__
    assert name in dir(pytest_carthage)


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'pytest_carthage' has no attribute 'Layuot'"):
        pytest_carthage.Layuot  # noqa: B018
