"""Content keys: the same for what would have the same effect."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import inspect
import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from pathlib import Path, PurePath
from types import FunctionType
from typing import Any

from pytest_carthage.model.keys.source import source_of

__all__ = ["LATER", "Anchor", "Unkeyed", "content", "digest", "function_key", "module_of"]

#: in the metadata of a dataclass's field: it came later than others, and what does not say it has
#: the key that it had before
LATER = "later"

_PLAIN = (str, int, float, bool, type(None))

#: a folder, or several, that paths near it are told from, so that all may be moved together
Anchor = Path | tuple[Path, ...] | None


class Unkeyed(TypeError):
    """A value of which nobody can tell whether it would have the same effect next time."""


def digest(value: object, anchor: Anchor = None) -> str:
    """Key of a value (32 hexadecimal digits of its SHA-256).

    :raises Unkeyed: it holds something that has no key.
    """
    text = json.dumps(content(value, anchor), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def content(value: Any, anchor: Anchor = None) -> Any:
    """A value as JSON can hold it, the same in every process and on every machine.

    :param anchor: paths below this folder are told from there, so that it may be moved.
    :raises Unkeyed: it holds something that has no key.
    """
    if isinstance(value, Enum):
        member: list[Any] = [type(value).__qualname__, value.name]
        with contextlib.suppress(Unkeyed):
            member.append(content(value.value, anchor))
        return member
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, bytes):
        return ["bytes", value.hex()]
    if isinstance(value, list | tuple):
        return [content(one, anchor) for one in value]
    if isinstance(value, set | frozenset):
        return sorted((content(one, anchor) for one in value), key=json.dumps)
    if isinstance(value, Mapping):
        pairs = [[content(key, anchor), content(one, anchor)] for key, one in value.items()]
        return ["mapping", sorted(pairs, key=json.dumps)]
    if isinstance(value, PurePath):
        return _path(value, anchor)
    if callable(own := getattr(value, "__content__", None)) and not isinstance(value, type):
        return own()
    if isinstance(value, type):
        return ["class", module_of(value), value.__qualname__]
    if isinstance(value, functools.partial):
        parts = (value.func, value.args, value.keywords)
        return ["partial", *(content(one, anchor) for one in parts)]
    if isinstance(value, FunctionType):
        from pytest_carthage.model.keys.references import function_content

        return ["function", function_content(value)]
    if is_dataclass(value):
        values = {
            one.name: content(getattr(value, one.name), anchor)
            for one in fields(value)
            if one.compare
            and not (one.metadata.get(LATER) and getattr(value, one.name) == one.default)
        }
        return [type(value).__qualname__, values]
    if type(value).__module__ in ("ipaddress", "datetime", "decimal", "uuid"):
        return [type(value).__name__, str(value)]
    raise Unkeyed(f"{value!r} ({type(value).__qualname__}) cannot be part of a key")


def _path(path: PurePath, anchor: Anchor) -> Any:
    text = os.fspath(path)
    anchors = anchor if isinstance(anchor, tuple) else () if anchor is None else (anchor,)
    if path.is_absolute():
        for start in anchors:
            for folder in (start, start.parent):
                if path.is_relative_to(folder):
                    return ["path", os.path.relpath(text, start)]
    return ["path", text]


def module_of(value: Any) -> str:
    """The name of the file that something is defined in.

    That of the module depends on who has imported it: of a ``conftest.py`` there are three.
    """
    code = getattr(value, "__code__", None)
    file = getattr(sys.modules.get(value.__module__), "__file__", None)
    path = Path(code.co_filename if code is not None else file or value.__module__)
    return path.parent.name if path.stem == "__init__" else path.stem


def function_key(function: Callable[..., Any]) -> str:
    """Key of a function, by its own source text (hexadecimal SHA-256).

    An edit elsewhere in the file leaves it as it is. Where there is no source (a function typed
    into an interpreter), its byte code stands in.
    """
    return hashlib.sha256(source_of(inspect.unwrap(function)).encode()).hexdigest()
