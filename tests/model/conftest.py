"""What the tests of the model share."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from typing import Any

import pytest

import pytest_carthage
from pytest_carthage import roles

Declare = Callable[[str], dict[str, Any]]


@pytest.fixture
def declare() -> Declare:
    """Run an author's file; line numbers in messages are those of the text, from 1."""

    def run(source: str) -> dict[str, Any]:
        names: dict[str, Any] = {"__name__": "author"}
        names |= {name: getattr(pytest_carthage, name) for name in pytest_carthage.__all__}
        names |= {name: getattr(roles, name) for name in roles.__all__}
        exec(compile(textwrap.dedent(source).strip(), "conftest.py", "exec"), names)
        return names

    return run


@pytest.fixture
def refused(declare: Declare) -> Callable[[str], str]:
    """Run an author's file that is wrong; returns the message."""

    def run(source: str) -> str:
        with pytest.raises(pytest_carthage.LayoutError) as caught:
            declare(source)
        return str(caught.value)

    return run
