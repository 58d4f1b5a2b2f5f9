"""Stages as pytest sees them: fixtures that wait for each other."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pytest

from pytest_carthage.model.graph import cycle
from pytest_carthage.model.stage import ATTRIBUTE, Stage

__all__ = ["refuse_cycles", "stage_of"]

#: fixture definitions of one name, of which the last overrides the others
Definitions = Sequence[Any]


def stage_of(definition: Any) -> Stage | None:
    """Find the stage behind a fixture definition; None: it is an ordinary fixture."""
    found: Stage | None = getattr(definition.func, ATTRIBUTE, None)
    return found


def refuse_cycles(items: Iterable[pytest.Item]) -> None:
    """Refuse fixtures that wait for each other, where one of them is a stage.

    :raises pytest.UsageError: with the cycle, each with its file and line.
    """
    seen: set[tuple[int, ...]] = set()
    for item in items:
        info = getattr(item, "_fixtureinfo", None)
        if info is None:
            continue
        known: dict[str, Definitions] = info.name2fixturedefs
        signature = tuple(id(definitions[-1]) for definitions in known.values() if definitions)
        if signature in seen:
            continue
        seen.add(signature)
        _refuse_cycle(known)


def _refuse_cycle(known: dict[str, Definitions]) -> None:
    if not any(definitions and stage_of(definitions[-1]) for definitions in known.values()):
        return
    nodes: dict[str, Any] = {}
    needs: dict[str, list[str]] = {}
    for name, definitions in known.items():
        for depth, definition in enumerate(reversed(definitions)):
            node = _node(name, depth)
            nodes[node] = definition
            needs[node] = [
                # a fixture that asks for its own name means the one that it overrides
                _node(needed, depth + 1 if needed == name else 0)
                for needed in definition.argnames
                if needed in known and (needed != name or depth + 1 < len(definitions))
            ]
            if name in definition.argnames and depth + 1 >= len(definitions):
                needs[node].append(node)
    found = cycle(needs)
    if found and any(stage_of(nodes[node]) for node in found):
        steps = "\n".join(f"  {_describe(nodes[node])}" for node in found[:-1])
        raise pytest.UsageError(
            f"these wait for each other, so that none can begin:\n{steps}\n"
            f"  and so on: {' -> '.join(nodes[node].argname for node in found)}\n"
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
