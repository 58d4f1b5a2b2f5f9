"""Scopes: which there are, and which is the narrowest."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_carthage import Layout, LayoutError, stage
from pytest_carthage.model.scope import SCOPES, narrowest


class Empty(Layout):
    """Nothing."""


@pytest.mark.parametrize(
    ("scopes", "expected"),
    [
        ([], "session"),
        (["session", "module"], "module"),
        (["class", "function", "package"], "function"),
    ],
)
def test_narrowest_scope_of_some(scopes: list[Any], expected: str) -> None:
    assert narrowest(scopes) == expected


def test_fixture_with_an_unknown_scope_is_refused_with_those_there_are() -> None:
    scope: Any = "modul"
    with pytest.raises(LayoutError, match=r"layout 'Empty'") as caught:
        Empty.fixture(scope=scope)
    message = str(caught.value)
    assert "scope 'modul' is none of 'session', 'package', 'module', 'class', 'function'" in message
    assert "test_scope.py:" in message
    assert message.endswith("try: Empty.fixture(scope='module')")


@pytest.mark.parametrize("scope", ["global", None, ["session"], 3])
def test_fixture_with_no_scope_at_all_is_refused(scope: Any) -> None:
    with pytest.raises(LayoutError, match=r"try: Empty.fixture\(scope='function'\)"):
        Empty.fixture(scope=scope)


def test_stage_with_an_unknown_scope_is_refused() -> None:
    scope: Any = "test"

    def imported() -> None:
        """Nothing."""

    with pytest.raises(LayoutError, match=r"stage 'imported': scope 'test' is none of") as caught:
        stage(scope=scope)(imported)
    assert str(caught.value).endswith("try: @stage(scope='function')")


def test_every_scope_is_one_of_pytest() -> None:
    for scope in SCOPES:
        assert Empty.fixture(scope=scope) is not None
