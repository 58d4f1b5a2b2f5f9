"""Stages as pytest sees them: fixtures that wait for each other."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pytest

from pytest_carthage.model.stage import ATTRIBUTE, Stage
from pytest_carthage.planning.order import cycle

__all__ = ["refuse_cycles", "stage_of"]

#: fixture definitions of one name, of which the last overrides the others
Definitions = Sequence[Any]


def stage_of(definition: Any) -> Stage | None:
    """Find the stage behind a fixture definition; None: it is an ordinary fixture."""
    stage: Stage | None = getattr(definition.func, ATTRIBUTE, None)
    return stage


def refuse_cycles(items: Iterable[pytest.Item]) -> None:
    """Refuse fixtures that wait for each other, where one of them is a stage.

    :raises pytest.UsageError: with the cycle, each with its file and line.
    """
    looked_at: set[tuple[int, ...]] = set()
    for item in items:
        info = getattr(item, "_fixtureinfo", None)
        if info is None:
            continue
        fixtures: dict[str, Definitions] = info.name2fixturedefs
        signature = tuple(id(definitions[-1]) for definitions in fixtures.values() if definitions)
        if signature in looked_at:
            continue
        looked_at.add(signature)
        _refuse_cycle(fixtures)


def _refuse_cycle(fixtures: dict[str, Definitions]) -> None:
    if not any(definitions and stage_of(definitions[-1]) for definitions in fixtures.values()):
        return
    nodes: dict[str, Any] = {}
    needs: dict[str, list[str]] = {}
    for name, definitions in fixtures.items():
        for depth, definition in enumerate(reversed(definitions)):
            node = _node(name, depth)
            nodes[node] = definition
            needs[node] = [
                # a fixture that asks for its own name means the one that it overrides
                _node(needed, depth + 1 if needed == name else 0)
                for needed in definition.argnames
                if needed in fixtures and (needed != name or depth + 1 < len(definitions))
            ]
            if name in definition.argnames and depth + 1 >= len(definitions):
                needs[node].append(node)
    circle = cycle(needs)
    if circle and any(stage_of(nodes[node]) for node in circle):
        steps = "\n".join(f"  {_describe(nodes[node])}" for node in circle[:-1])
        raise pytest.UsageError(
            f"these wait for each other, so that none can begin:\n{steps}\n"
            f"  and so on: {' -> '.join(nodes[node].argname for node in circle)}\n"
            "take one of these parameters away"
        )


def _node(name: str, depth: int) -> str:
    return f"{name}^{depth}" if depth else name


def _describe(definition: Any) -> str:
    stage = stage_of(definition)
    if stage is not None:
        return f"stage {stage.name!r} ({stage.place}) waits for {', '.join(stage.needs)}"
    code = getattr(definition.func, "__code__", None)
    where = f" ({code.co_filename}:{code.co_firstlineno})" if code else ""
    return f"fixture {definition.argname!r}{where} waits for {', '.join(definition.argnames)}"
