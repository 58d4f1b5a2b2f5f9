"""What a layout declares, in a form in which two declarations are compared: later, elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any

from pytest_carthage.model.keys.key import Unkeyed, digest
from pytest_carthage.planning.plan import Plan

__all__ = ["Fingerprint", "differences", "fingerprint"]

#: kind (``networks``, ``machines``) to name to field to key and text; plain values, for JSON
Fingerprint = Mapping[str, Mapping[str, Mapping[str, tuple[str, str]]]]

#: what the code of a target says, and no author
_NOT_DECLARED = ("name", "traits", "built_roles")
_LONGEST = 60


def fingerprint(plan: Plan) -> dict[str, dict[str, dict[str, tuple[str, str]]]]:
    """Take the fingerprint of a plan that nothing was added to yet."""
    return {
        "networks": {name: _fields(each) for name, each in plan.networks.items()},
        "machines": {name: _fields(each) for name, each in plan.machines.items()},
    }


def differences(before: Fingerprint, now: Fingerprint) -> list[str]:
    """List what differs, one line each: ``machine 'web': command: ... then, ... now``."""
    lines: list[str] = []
    for kind, singular in (("networks", "network"), ("machines", "machine")):
        lines += _in_kind(singular, before.get(kind, {}), now.get(kind, {}))
    return lines


def _in_kind(
    kind: str,
    before: Mapping[str, Mapping[str, tuple[str, str]]],
    now: Mapping[str, Mapping[str, tuple[str, str]]],
) -> Iterator[str]:
    for name in before:
        if name not in now:
            yield f"{kind} {name!r} is declared no more"
    for name, values in now.items():
        if name not in before:
            yield f"{kind} {name!r} is new"
            continue
        for field, (key, text) in values.items():
            old_key, old_text = before[name].get(field, ("", "not known"))
            if key == old_key:
                continue
            if text == old_text:
                yield f"{kind} {name!r}: {field} has changed"
            else:
                yield f"{kind} {name!r}: {field}: {old_text} then, {text} now"


def _fields(planned: Any) -> dict[str, tuple[str, str]]:
    values = {each.name: getattr(planned, each.name) for each in fields(planned)}
    return {
        name: _key_and_text(name, value)
        for name, value in values.items()
        if name not in _NOT_DECLARED
    }


def _key_and_text(field: str, value: Any) -> tuple[str, str]:
    if field == "roles":
        names = ", ".join(type(role).__name__ for role in value) or "none"
        return digest([role.key for role in value]), names
    if field == "links":
        text = ", ".join(
            f"{link.interface} {' '.join(map(str, link.addresses)) or link.network or link.kind}"
            for link in value
        )
        return _key(value), _short(text or "none")
    if field == "image":
        return (value.key, value.name) if value is not None else ("", "none")
    return _key(value), _short(str(value) if not isinstance(value, str) else repr(value))


def _key(value: Any) -> str:
    try:
        return digest(value)
    except Unkeyed:
        return repr(value)


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."
