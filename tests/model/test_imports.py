"""What importing the package costs."""

from __future__ import annotations

import ast
import importlib
import inspect
import subprocess
import sys
from pathlib import Path

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


def public(module: str) -> set[str]:
    """Classes of a module that are no seams."""
    there = importlib.import_module(f"pytest_carthage.{module}")
    classes = [value for value in vars(there).values() if inspect.isclass(value)]
    return {
        value.__name__
        for value in classes
        if value.__module__ == there.__name__
        and not value.__name__.startswith("_")
        and not getattr(value, "_is_protocol", False)
    }


#: who makes and shows events takes these from the module itself
REPORTERS = {"Fanout", "Recorder", "Silent", "Work"}


def test_every_error_and_event_is_importable_from_the_package() -> None:
    assert public("errors") <= {*pytest_carthage.__all__}
    assert public("events") - REPORTERS == {"Event"}
    assert public("live.resolved") - {"Resolutions"} == {"LinkResolved", "PublicAddressKnown"}
    assert {"Event", "LinkResolved", "PublicAddressKnown"} <= {*pytest_carthage.__all__}


@pytest.mark.parametrize("module", ["playbook", "result", "drift", "gates", "network"])
def test_every_value_that_a_handle_gives_is_importable_from_the_package(module: str) -> None:
    assert public(f"handles.{module}") <= {*pytest_carthage.__all__}


def test_public_names_are_those_that_type_checkers_see() -> None:
    tree = ast.parse(Path(pytest_carthage.__file__).read_text())
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    seen = {
        alias.name: statement.module
        for statement in block.body
        if isinstance(statement, ast.ImportFrom)
        for alias in statement.names
    }
    assert sorted(seen) == sorted(pytest_carthage.__all__)
    for name, module in seen.items():
        assert getattr(pytest_carthage, name) is getattr(importlib.import_module(str(module)), name)
