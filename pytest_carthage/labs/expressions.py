"""Declarations as they are written: each has a value, and a text that a formatter leaves alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Call", "Method", "Ref", "Written", "imports", "text_of", "value_of"]

#: the longest line
_WIDTH = 100
_INDENT = 4


@dataclass(frozen=True, slots=True)
class Ref:
    """The member of a name."""

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A call of something that is imported: ``Machine(...)``, ``Image.oci(...)``."""

    function: Callable[..., Any]
    #: as it is written; what is before the first dot is imported
    name: str
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """A call of a method: ``lan.at(".1")``."""

    of: Ref | Call | Method
    name: str
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)


Written = Ref | Call | Method


def value_of(written: Any, members: Mapping[str, Any]) -> Any:
    """What it means, where these members are.

    :raises LayoutError: a declaration is wrong.
    """
    if isinstance(written, Ref):
        return members[written.name]
    if isinstance(written, Call | Method):
        args = [value_of(one, members) for one in written.args]
        kwargs = {name: value_of(one, members) for name, one in written.kwargs.items()}
        if isinstance(written, Call):
            return written.function(*args, **kwargs)
        return getattr(value_of(written.of, members), written.name)(*args, **kwargs)
    if isinstance(written, Mapping):
        return {key: value_of(one, members) for key, one in written.items()}
    if isinstance(written, list | tuple):
        return type(written)(value_of(one, members) for one in written)
    return written


def text_of(written: Any, *, indent: int = 0, before: str = "", after: str = "") -> str:
    """Its source text, without the indentation of its first line.

    :param indent: columns before it.
    :param before: what is on its first line before it, as in ``"lan = "``.
    :param after: what is on its last line after it.
    """
    head, parts, tail = _taken_apart(written)
    if isinstance(written, str) and "\n" in written:  # a script, line by line
        texts = [_quoted(line) for line in written.splitlines(keepends=True)]
        between = "\n" + " " * indent
        return f"{before}{between.join(texts)}{after}"
    flat = f"{before}{head}{', '.join(_flat(*part) for part in parts)}{tail}{after}"
    if not parts or indent + len(flat) <= _WIDTH:
        return flat
    inner = indent + _INDENT
    pad = " " * inner
    body = ", ".join(_flat(*part) for part in parts)
    is_literal = not isinstance(written, Call | Method)
    if not is_literal and inner + len(body) <= _WIDTH:
        lines = [pad + body]
    else:
        lines = [pad + text_of(value, indent=inner, before=key, after=",") for key, value in parts]
    # exploded, each part has a comma after it
    return "\n".join([f"{before}{head}", *lines, " " * indent + tail.lstrip(",") + after])


def _flat(before: str, written: Any) -> str:
    head, parts, tail = _taken_apart(written)
    return f"{before}{head}{', '.join(_flat(*part) for part in parts)}{tail}"


def _taken_apart(written: Any) -> tuple[str, list[tuple[str, Any]], str]:
    """What begins it, its parts (each with what stands before it), and what ends it."""
    if isinstance(written, Ref):
        return written.name, [], ""
    if isinstance(written, Call | Method):
        parts = [("", one) for one in written.args]
        parts += [(f"{name}=", one) for name, one in written.kwargs.items()]
        start = "" if isinstance(written, Call) else f"{_flat('', written.of)}."
        return f"{start}{written.name}(", parts, ")"
    if isinstance(written, Mapping):
        return "{", [(f"{_quoted(key)}: ", one) for key, one in written.items()], "}"
    if isinstance(written, list):
        return "[", [("", one) for one in written], "]"
    if isinstance(written, tuple):
        return "(", [("", one) for one in written], ",)" if len(written) == 1 else ")"
    return _quoted(written), [], ""


def _quoted(value: object) -> str:
    """A plain value, with the quotes that formatters prefer."""
    if not isinstance(value, str):
        return repr(value)
    text = repr(value)
    if text[0] == '"' or '"' in value:
        return text
    return '"' + text[1:-1].replace("\\'", "'") + '"'


def imports(every: Iterable[Any]) -> set[str]:
    """Names that have to be imported for them."""
    names: set[str] = set()
    for written in every:
        if isinstance(written, Call):
            names.add(written.name.partition(".")[0])
        if isinstance(written, Method):
            names |= imports([written.of])
        if isinstance(written, Call | Method):
            names |= imports([*written.args, *written.kwargs.values()])
        elif isinstance(written, Mapping):
            names |= imports(written.values())
        elif isinstance(written, list | tuple):
            names |= imports(written)
    return names
