"""Stages that would last longer than what they are given."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pytest

from pytest_carthage.model.scope import SCOPES
from pytest_carthage.planning.declaration import ATTRIBUTE
from pytest_carthage.plugin.cycles import stage_of

__all__ = ["refuse_wide_stages"]


def refuse_wide_stages(items: Iterable[pytest.Item]) -> None:
    """Refuse a stage whose scope is wider than that of a layout, or of any other fixture of it.

    :raises pytest.UsageError: with both, and what to write.
    """
    looked_at: set[tuple[int, ...]] = set()
    for item in items:
        info = getattr(item, "_fixtureinfo", None)
        if info is None:
            continue
        fixtures: dict[str, Sequence[Any]] = info.name2fixturedefs
        last = {name: definitions[-1] for name, definitions in fixtures.items() if definitions}
        signature = tuple(map(id, last.values()))
        if signature in looked_at:
            continue
        looked_at.add(signature)
        for definition in last.values():
            for name in definition.argnames if stage_of(definition) is not None else ():
                if name in last and _is_wider(definition.scope, last[name].scope):
                    raise pytest.UsageError(_refusal(definition, last[name], item))


def _is_wider(scope: str, other: str) -> bool:
    names: Sequence[str] = SCOPES
    return names.index(scope) < names.index(other)


def _refusal(definition: Any, given: Any, item: pytest.Item) -> str:
    stage = stage_of(definition)
    assert stage is not None
    layout = getattr(given.func, ATTRIBUTE, None)
    if layout is not None:
        name = f"layout {layout.__name__!r} (fixture {given.argname!r})"
    else:
        name = f"{'stage' if stage_of(given) is not None else 'fixture'} {given.argname!r}"
    remedy = f"@stage(scope={given.scope!r})"
    if stage.scope is None and layout is not None:
        remedy += f", or write it beside the fixture {given.argname!r}, whose scope it follows then"
    return (
        f"stage {stage.name!r} ({stage.place}) lasts for a {definition.scope}, and {name}, which "
        f"it is given, for a {given.scope}, as {item.nodeid} needs them; try: {remedy}"
    )
