"""Source text of functions and classes, as it was when they were made."""

from __future__ import annotations

import dis
import functools
import inspect
import linecache
import textwrap
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import CodeType
from typing import Any

from pytest_carthage import clock

__all__ = ["source_of"]

#: files that were written since may no longer be what was imported
_BEGIN_NS = clock.unix_ns()
_CONSTANTS = ("LOAD_CONST", "LOAD_SMALL_INT", "RETURN_CONST")
_WITH_NAMES = frozenset((*dis.hasname, *dis.haslocal, *dis.hasfree))
_OF_PYTHON = ("__firstlineno__", "__static_attributes__")
_STARRED = inspect.CO_VARARGS | inspect.CO_VARKEYWORDS


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
        mtime_ns = file.stat().st_mtime_ns
    except OSError:
        # Python may have the text: of a cell of a notebook, but also of another `<string>`
        return code is None or _is_in(_code_of("".join(linecache.getlines(str(file)))), code)
    if mtime_ns < _BEGIN_NS:
        return True
    return code is not None and _is_in(_code_in(file, mtime_ns), code)


def _is_in(there: Iterable[CodeType], code: CodeType) -> bool:
    place = (code.co_qualname, code.co_firstlineno)
    return any(
        (other.co_qualname, other.co_firstlineno) == place and _shape(other) == _shape(code)
        for other in there
    )


@functools.lru_cache(maxsize=64)
def _code_in(file: Path, mtime_ns: int) -> tuple[CodeType, ...]:
    return _code_of(file.read_bytes())


def _code_of(text: str | bytes) -> tuple[CodeType, ...]:
    return tuple(_inside(compile(text, "", "exec", dont_inherit=True)))


def _inside(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _inside(constant)


def _shape(code: CodeType) -> Any:
    """What code does, without where it stands."""
    steps: list[tuple[str, Any]] = []
    for instruction in dis.get_instructions(code):
        if instruction.opname == "STORE_NAME" and instruction.argval in _OF_PYTHON:
            steps.pop()  # a class keeps its line, and what its methods store in a random order
        elif instruction.opname in _CONSTANTS:
            steps.append((instruction.opname, _constant(instruction.argval)))
        elif instruction.opcode in _WITH_NAMES:
            steps.append((instruction.opname, instruction.argval))
        elif instruction.opname != "EXTENDED_ARG":
            steps.append((instruction.opname, instruction.arg))
    parameters = (
        code.co_varnames[: code.co_argcount + code.co_kwonlyargcount],
        code.co_posonlyargcount,
        code.co_kwonlyargcount,
        code.co_flags & _STARRED,
    )
    return (code.co_name, parameters, steps, code.co_exceptiontable.hex())


def _constant(value: Any) -> Any:
    if isinstance(value, CodeType):
        return _shape(value)
    if isinstance(value, frozenset):
        return sorted(map(repr, value))
    return repr(value)
