"""What doctor says of the ``ssh`` target where its library is not installed."""

from __future__ import annotations

import importlib.util
from importlib.machinery import ModuleSpec

import pytest

from pytest_carthage.providers.ssh import SshProvider


def test_library_that_is_missing_is_an_extra_that_any_user_installs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = importlib.util.find_spec

    def find(name: str, package: str | None = None) -> ModuleSpec | None:
        return None if name == "asyncssh" else found(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", find)
    (problem,) = SshProvider().check()
    assert (problem.extra, problem.is_own) == ("ssh", True)
    assert problem.remedy == "python3 -m pip install 'pytest-carthage[ssh]'"
