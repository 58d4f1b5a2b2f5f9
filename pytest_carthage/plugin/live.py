"""Layouts and stages as fixtures: where pytest meets realisation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import pytest

from pytest_carthage.plugin.session import Session

if TYPE_CHECKING:
    from pytest_carthage.model.layout import Layout
    from pytest_carthage.model.stage import Stage

__all__ = ["layout_fixture", "run_stage"]


def layout_fixture(cls: type[Layout], request: pytest.FixtureRequest) -> Iterator[Layout]:
    """Build a layout, yield it live, then tear it down or keep it.

    The body of every layout's fixture. What is wrong is told as a person needs it: a host that
    lacks something skips (or fails, with ``--carthage-strict``), any other cause is shown once.
    """
    __tracebackhide__ = True
    session = Session.of(request.config)
    live = session.build(cls, request)
    yield live.instance
    session.end(live)


def run_stage(stage: Stage, arguments: Mapping[str, Any], request: pytest.FixtureRequest) -> Any:
    """Run a stage with the fixtures that it asks for; returns what it returns.

    :raises pytest_carthage.errors.TimeLimitError: it did not end in time.
    """
    __tracebackhide__ = True
    return Session.of(request.config).run_stage(stage, arguments)
