"""Source text of functions and classes, as it was when they were made."""

from __future__ import annotations

import functools
import inspect
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from types import CodeType
from typing import Any

__all__ = ["source_of"]

#: files that were written since may no longer be what was imported
_BEGIN = time.time()


@functools.lru_cache(maxsize=4096)
def source_of(thing: Any) -> str:
    """The source text of a function or class.

    Where there is none (a function typed into an interpreter), or its file was edited since the
    function was made, its byte code stands in. Of a class nothing is left then: its members count
    by themselves.
    """
    code: CodeType | None = getattr(thing, "__code__", None)
    try:
        if _is_as_made(thing, code):
            # of a function itself, and not of what it wraps
            return textwrap.dedent(inspect.getsource(code or thing)).strip()
    except (OSError, TypeError, SyntaxError):
        pass
    return "" if code is None else repr(_shape(code))


def _is_as_made(thing: Any, code: CodeType | None) -> bool:
    """Whether its file still says what it is made of."""
    file = Path(inspect.getfile(code or thing))
    try:
        if file.stat().st_mtime < _BEGIN:
            return True
    except OSError:  # its text may be in a cache of Python's
        return True
    if code is None:
        return False
    there = _code_in(file, file.stat().st_mtime_ns)
    return any(
        (one.co_qualname, one.co_firstlineno) == (code.co_qualname, code.co_firstlineno)
        and _shape(one) == _shape(code)
        for one in there
    )


@functools.lru_cache(maxsize=64)
def _code_in(file: Path, mtime_ns: int) -> tuple[CodeType, ...]:
    text = file.read_bytes()
    return tuple(_inside(compile(text, str(file), "exec", dont_inherit=True)))


def _inside(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _inside(constant)


def _shape(code: CodeType) -> Any:
    """What code does, without where it stands."""
    constants = []
    for one in code.co_consts:
        if isinstance(one, CodeType):
            constants.append(_shape(one))
        elif isinstance(one, frozenset):
            constants.append(sorted(map(repr, one)))
        else:
            constants.append(repr(one))
    return (code.co_name, code.co_code.hex(), constants, code.co_names, code.co_varnames)
