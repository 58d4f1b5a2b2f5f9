"""The first page of a bundle, for people: what failed, what was last, how to see it again."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["summary_text"]

#: lines of the failed assertion
_MOST_LINES = 30


def summary_text(summary: Mapping[str, Any]) -> str:
    """Write ``summary.txt``, of what ``summary.json`` has."""
    sections = [
        f"{summary['test']} failed in its {summary['phase']}, {summary['ended']}\n",
        _section("what failed", _shortened(summary["failed"])),
        _section("what went on meanwhile", summary["meanwhile"]),
        *(_environment(name, part) for name, part in summary["environments"].items()),
        _section("again", [summary["again"]]),
        _section("kept", summary["kept"]),
        _section("more", ["error.txt: what pytest shows", "events.txt: what happened, and when"]),
    ]
    return "\n".join(section for section in sections if section)


def _section(title: str, lines: Iterable[str]) -> str:
    text = "".join(f"  {line}\n" for line in lines)
    return f"{title}:\n{text}" if text else ""


def _shortened(lines: list[str]) -> list[str]:
    left_out = len(lines) - _MOST_LINES
    if left_out <= 0:
        return lines
    return [*lines[:_MOST_LINES], f"[{left_out} lines are left out: see error.txt]"]


def _environment(name: str, part: Mapping[str, Any]) -> str:
    if "machines" not in part:
        return _section(name, [part["missing"]])
    blocks = [_machine(machine, values) for machine, values in part["machines"].items()]
    earlier = _section("logs of earlier plays", part.get("earlier", ()))
    return f"{name} (layout {part['layout']}):\n" + textwrap.indent(
        "".join([*blocks, earlier]), "  "
    )


def _machine(name: str, values: Mapping[str, Any]) -> str:
    state = "" if values["live"] else ", which was never ready"
    command = values["last_command"] or "none"
    lines = values["last_lines"]
    return (
        f"{name}{state}:\n"
        f"  last command: {command}\n"
        f"  last lines of its log: {'' if lines else 'none'}\n"
        + "".join(f"    {line}\n" for line in lines)
    ).replace(": \n", ":\n")
