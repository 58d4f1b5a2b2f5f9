"""What the stages of a test ask machines for, looked at before anything is built for them."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from pytest_carthage.live.layout import Layout
from pytest_carthage.model.stage import Stage
from pytest_carthage.planning.declaration import ATTRIBUTE
from pytest_carthage.planning.uses import Use, uses_of_layout
from pytest_carthage.plugin.cycles import stage_of

__all__ = ["check"]


def check(item: pytest.Item) -> None:
    """Refuse stages of a test that ask machines for what their targets cannot do.

    :raises pytest.fail.Exception: with the machine, what it is asked for, and where.
    """
    __tracebackhide__ = True
    for stage, parameter, layout in _stages(item):
        if uses := _uses(stage, parameter, frozenset(layout.machines())):
            from pytest_carthage.plugin.session import Session

            Session.of(item.config).refusals.refuse(item, stage, layout, uses)


def _stages(item: pytest.Item) -> Iterator[tuple[Stage, str, type[Layout]]]:
    """Stages that a test waits for, with each parameter of theirs that is a layout."""
    info = getattr(item, "_fixtureinfo", None)
    if info is None:
        return
    fixtures: dict[str, Sequence[Any]] = info.name2fixturedefs
    last = {name: definitions[-1] for name, definitions in fixtures.items() if definitions}
    for definition in last.values():
        stage = stage_of(definition)
        for name in stage.needs if stage is not None else ():
            layout = getattr(last[name].func, ATTRIBUTE, None) if name in last else None
            if stage is not None and layout is not None:
                yield stage, name, layout


@functools.cache
def _uses(stage: Stage, parameter: str, machines: frozenset[str]) -> Sequence[Use]:
    return uses_of_layout(stage.function, parameter, machines)
