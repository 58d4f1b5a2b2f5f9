"""Calls that do not fit: the list of what there is, in place of Python's own words alone."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from inspect import Parameter
from typing import Any

__all__ = ["Misfit", "closest", "misfit"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Misfit:
    """Why arguments do not fit a function."""

    #: as in ``"it has no argument 'delay'"``
    what: str
    #: what there is
    remedy: str


def misfit(
    function: Callable[..., Any],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    *,
    own: int = 0,
    unlisted: Collection[str] = (),
) -> Misfit | None:
    """Why a call cannot be made; None: the arguments fit.

    :param own: number of first arguments that the caller does not write, as ``self``.
    :param unlisted: arguments that are no caller's.
    """
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # of C, without a signature
        return None
    try:
        signature.bind(*args, **kwargs)
    except TypeError:
        pass
    else:
        return None
    parameters = list(signature.parameters.values())[own:]
    takes = [one for one in parameters if one.name not in unlisted]
    return Misfit(what=_wrong(takes, len(args) - own, kwargs), remedy=_listed(takes, kwargs))


_BY_NAME = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)


def closest(name: object, names: Iterable[str]) -> str:
    """As in ``"did you mean 'web'?"``; empty where nothing is near."""
    others = [each for each in names if each != name]
    near = get_close_matches(name, others, 1) if isinstance(name, str) else []
    return f"did you mean {near[0]!r}?" if near else ""


def _wrong(takes: Sequence[Parameter], given: int, kwargs: Mapping[str, Any]) -> str:
    by_name = {one.name: one for one in takes if one.kind is not Parameter.POSITIONAL_ONLY}
    has_more = any(one.kind is Parameter.VAR_KEYWORD for one in takes)
    if not has_more and (odd := [name for name in kwargs if name not in by_name]):
        return f"it has no argument {', '.join(map(repr, odd))}"
    positional = [
        one
        for one in takes
        if one.kind in (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
    ]
    if given > len(positional):
        if not positional:
            return f"it takes its arguments by name, and got {given} without one"
        return f"it takes at most {len(positional)} without a name, and got {given}"
    if twice := [one.name for one in positional[:given] if one.name in kwargs]:
        return f"argument {twice[0]!r} is given twice"
    filled = {one.name for one in positional[:given]} | set(kwargs)
    missing = [
        one.name
        for one in takes
        if one.default is Parameter.empty
        and one.name not in filled
        and one.kind not in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
    ]
    return f"argument {', '.join(map(repr, missing))} is missing"


def _listed(takes: Sequence[Parameter], kwargs: Mapping[str, Any]) -> str:
    if not takes:
        return "no arguments: it takes none"
    named = [one.name for one in takes if one.kind is not Parameter.VAR_KEYWORD]
    by_name = [one.name for one in takes if one.kind in _BY_NAME]
    near = [
        match[0]
        for name in kwargs
        if name not in named and (match := get_close_matches(name, by_name, 1, 0.5))
    ]
    first = f"{', '.join(f'{name}=' for name in near)}; " if near else ""
    return f"{first}there are {', '.join(map(_written, takes))}"


def _written(parameter: Parameter) -> str:
    match parameter.kind:
        case Parameter.VAR_POSITIONAL:
            return f"*{parameter.name}"
        case Parameter.VAR_KEYWORD:
            return f"**{parameter.name}"
        case Parameter.KEYWORD_ONLY:
            return f"{parameter.name}="
    return parameter.name
