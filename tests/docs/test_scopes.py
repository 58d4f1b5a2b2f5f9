"""The suite of ``docs/explanation/scopes.md``, run as one: its tests build on each other."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.plugin.conftest import Suite, suite  # noqa: F401

pytestmark = pytest.mark.real


def test_each_scope_lasts_as_long_as_the_page_says(suite: Suite) -> None:  # noqa: F811
    file = Path(__file__).parent / "scopes" / "test_scopes.py"
    shutil.copy(file, suite.path / file.name)
    result = suite.pytester.runpytest_subprocess(*suite.options(), timeout=60)
    result.assert_outcomes(passed=4)
