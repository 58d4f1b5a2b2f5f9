"""What pytest says of a comparison with values of ours that does not hold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeGuard

from pytest_carthage.handles.ansible_module import ModuleResult
from pytest_carthage.handles.gates import GateConnection, GateRecord
from pytest_carthage.handles.network import InterfaceAddress, InterfaceState, Neighbour, Route
from pytest_carthage.handles.playbook import PlaybookResult, TaskResult
from pytest_carthage.handles.result import Result
from pytest_carthage.live.packets.capture import AsyncCapture, Capture
from pytest_carthage.live.packets.packets import Packet

__all__ = ["explained"]

#: attribute of a result that is of a type
_ATTRIBUTES = {str: "stdout", bytes: "stdout_bytes", bool: "ok", int: "status", list: "lines"}
#: of many values, how many are listed
_MOST = 10
#: their representations tell more than their fields
_VALUES = (
    GateConnection,
    GateRecord,
    InterfaceAddress,
    InterfaceState,
    ModuleResult,
    Neighbour,
    Packet,
    Route,
    TaskResult,
)


def explained(operator: str, left: object, right: object) -> list[str] | None:
    """Explain why two values are not equal; None: nothing of ours is among them.

    :returns: lines, the first of them with both values.
    """
    if operator != "==":
        return None
    head = f"{_short(left)} == {_short(right)}"
    for value, other in ((left, right), (right, left)):
        if (remark := _never(value, other)) is not None:
            return [head, remark, *(_listed(value) if isinstance(value, Sequence) else ())]
    if _is_sequence(left) and _is_sequence(right) and any(map(_is_ours, (*left, *right))):
        lines = [
            *_rows("on the left alone", left, right),
            *_rows("on the right alone", right, left),
        ]
        if type(left) is not type(right):
            lines.append(
                f"a {type(left).__name__} is never equal to a {type(right).__name__}, "
                "whatever they hold"
            )
        return [head, *(lines or ["the same values in another order"])]
    return None


def _never(value: object, other: object) -> str | None:
    """Why a value of ours is never equal to what it was compared with."""
    if isinstance(value, Result) and not isinstance(other, Result):
        name = _ATTRIBUTES.get(type(other), "stdout")
        return f"a Result is only ever equal to a Result; try: .{name}"
    if isinstance(value, PlaybookResult) and isinstance(other, bool):
        return "a PlaybookResult is only ever equal to a PlaybookResult; try: .ok or .changed"
    if isinstance(value, Capture | AsyncCapture) and isinstance(other, list | tuple):
        kind = type(other).__name__
        way = f"{kind}(packets) == ..." if other else "not packets"
        return f"a capture grows, and is never equal to a {kind}; try: {way}"
    return None


def _rows(where: str, values: Sequence[object], others: Sequence[object]) -> list[str]:
    alone = [value for value in values if value not in others]
    return [f"{where}, {len(alone)} of {len(values)}:", *_listed(alone)] if alone else []


def _listed(values: Sequence[object]) -> list[str]:
    left_out = len(values) - _MOST
    rows = [f"  {value!r}" for value in values[:_MOST]]
    return [*rows, f"  and {left_out} more"] if left_out > 0 else rows


def _short(value: object) -> str:
    if isinstance(value, list | tuple) and value and _is_ours(value[0]):
        return f"{type(value).__name__} of {len(value)}"
    shown = repr(value)
    return shown if len(shown) <= 240 else f"{shown[:236]} ..."


def _is_ours(value: object) -> bool:
    return isinstance(value, _VALUES)


def _is_sequence(value: object) -> TypeGuard[Sequence[object]]:
    return isinstance(value, list | tuple)
