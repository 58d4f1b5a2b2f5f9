"""Parameters of roles and tasks: whether a value is what its annotation says."""

from __future__ import annotations

import functools
import inspect
import sys
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, fields, is_dataclass
from difflib import get_close_matches
from pathlib import Path, PurePath, PurePosixPath
from typing import Annotated, Any, Literal, Union

from pytest_carthage.model.mistakes.mistake import Mistake
from pytest_carthage.model.mistakes.place import Place
from pytest_carthage.model.mistakes.value import Unreadable, probed, shown

__all__ = ["Parameters", "check_parameters", "inherit_annotations", "is_time_limit"]

_SIMPLE = (str, bytes, Path, PurePath, PurePosixPath)
_UNKNOWN = object()


class Parameters:
    """What a role takes, as ``help()``, editors and the reference show it: by its fields.

    ``inspect.signature`` would tell of ``Role.__new__``, which takes anything in order to check it.
    """

    def __get__(self, instance: object, owner: type) -> inspect.Signature:
        if is_dataclass(owner):
            whole = inspect.signature(owner.__init__)
            hidden = {"self", *(each.name for each in fields(owner) if not each.compare)}
            own = [each for each in whole.parameters.values() if each.name not in hidden]
            return inspect.Signature(own)
        return inspect.Signature()


def inherit_annotations(cls: type) -> None:
    """Have ``port = 81`` in a subclass be a new default of the parameter that its base has.

    It is to be called before ``@dataclass`` looks at the class.
    """
    hidden = _hidden_fields(cls)
    if hidden:
        parameters: Mapping[str, Field[Any]] = cls.__dataclass_fields__  # type: ignore[attr-defined]
        annotations = {name: parameters[name].type for name in hidden}
        cls.__annotations__ = {**inspect.get_annotations(cls), **annotations}


def is_time_limit(value: object) -> bool:
    """Whether it is a number of seconds that something may take, or None: as long as it takes."""
    if value is None:
        return True
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return 0 < value < float("inf")


def _hidden_fields(cls: type) -> list[str]:
    """Fields of a base that the class body gives another value, without telling a type."""
    parameters = getattr(cls, "__dataclass_fields__", {})
    own = vars(cls)
    if "__dataclass_fields__" in own:
        return []
    annotated = inspect.get_annotations(cls)
    return [
        name
        for name in own
        if name in parameters
        and name not in annotated
        and not isinstance(own[name], types.MemberDescriptorType | property)
    ]


def check_parameters(cls: type, given: Sequence[Any], named: Mapping[str, Any]) -> None:
    """Refuse the arguments of a role that are not what the class says.

    :raises LayoutError: a parameter is unknown or missing, or its value is of a wrong type.
    """

    def refuse(what: str, remedy: str) -> Exception:
        place = Place.of_author()
        return Mistake(what=what, remedy=remedy, place=place).error(f"role {cls.__name__}")

    if not is_dataclass(cls):
        if cls.__init__ is object.__init__ and (given or named):  # type: ignore[misc]
            arguments = ", ".join([*map(repr, given), *(f"{k}={v!r}" for k, v in named.items())])
            raise refuse(f"it takes no parameters, and got {arguments}", _decorated(cls))
        return
    if not cls.__dataclass_params__.init:  # type: ignore[attr-defined]
        return
    if "__dataclass_fields__" not in vars(cls) and (hidden := _undeclared(cls)):
        raise refuse(
            f"its value of {hidden} has no effect: a base's parameter stands before it",
            _decorated(cls),
        )
    parameters = {one.name: one for one in fields(cls)}
    for name in parameters:
        if isinstance(inspect.getattr_static(cls, name, None), property):
            raise refuse(
                f"{name} is a property here, and a parameter in a base",
                f"another name, or {name} = ... with a value",
            )
    for name in named:
        if name not in parameters and name not in inspect.signature(cls).parameters:
            close = get_close_matches(name, parameters, 1) or list(parameters)
            remedy = f"one of {', '.join(close)}" if close else "leave it out"
            if name in inspect.get_annotations(cls):
                remedy = _decorated(cls)
            raise refuse(f"it has no parameter {name!r}", remedy)
    positional = [one.name for one in parameters.values() if one.init and not one.kw_only]
    values = {**named, **dict(zip(positional, given, strict=False))}
    for name, parameter in parameters.items():
        value = values.get(name, parameter.default)
        if value is MISSING:
            if parameter.init and parameter.default_factory is MISSING:
                raise refuse(f"parameter {name!r} is missing", f"{cls.__name__}({name}=...)")
            continue
        try:
            probed(value)
        except Unreadable as error:
            raise refuse(f"parameter {name}: {error}", f"{name}=..., another value") from (
                error.__cause__
            )
        kind = _kind_of(cls, parameter)
        if not _fits(value, kind):
            raise refuse(
                f"parameter {name}={shown(value)} is {_told(type(value))},"
                f" expected is {_told(kind)}",
                f"{name}={_remedy(value, kind)}",
            )


def _undeclared(cls: type) -> str:
    return ", ".join(
        name
        for name in inspect.get_annotations(cls)
        if name in getattr(cls, "__dataclass_fields__", {})
    )


def _decorated(cls: type) -> str:
    return f"@dataclass(frozen=True, slots=True, kw_only=True) above class {cls.__name__}"


def _kind_of(cls: type, parameter: Field[Any]) -> Any:
    """What the annotation of a field says; :data:`_UNKNOWN` where that cannot be found out."""
    if not isinstance(parameter.type, str):
        return parameter.type
    for base in cls.__mro__:
        if inspect.get_annotations(base).get(parameter.name) == parameter.type:
            kind = _evaluated(parameter.type, base.__module__)
            if kind is not _UNKNOWN:
                return kind
    return _UNKNOWN


@functools.lru_cache(maxsize=1024)
def _evaluated(annotation: str, module: str) -> Any:
    scope = getattr(sys.modules.get(module), "__dict__", {})
    try:
        return eval(annotation, dict(scope))
    except Exception:  # of a function's own scope, or imported for type checkers only
        return _UNKNOWN


def _fits(value: Any, kind: Any) -> bool:
    """Whether a value is of a kind; what is not known of here takes all."""
    if kind is None or kind is type(None):
        return value is None
    if kind is bool:
        return isinstance(value, bool)
    if kind in (int, float):
        return isinstance(value, int if kind is int else int | float) and not isinstance(
            value, bool
        )
    if kind in _SIMPLE:
        return isinstance(value, kind)
    arguments = typing.get_args(kind)
    match typing.get_origin(kind) or kind:
        case origin if origin in (Union, types.UnionType):
            return any(_fits(value, one) for one in arguments)
        case origin if origin is Annotated:
            return _fits(value, arguments[0])
        case origin if origin is Literal:
            return any(type(value) is type(one) and value == one for one in arguments)
        case origin if origin is tuple:
            return _fits_tuple(value, arguments)
    return True


def _fits_tuple(value: Any, arguments: tuple[Any, ...]) -> bool:
    if not isinstance(value, tuple | list):
        return False
    if not arguments:
        return True
    if arguments[-1] is Ellipsis:
        return all(_fits(one, arguments[0]) for one in value)
    return len(value) == len(arguments) and all(map(_fits, value, arguments))


def _told(kind: Any) -> str:
    """A kind in words, as in ``"int or None"``."""
    arguments = typing.get_args(kind)
    match typing.get_origin(kind):
        case origin if origin in (Union, types.UnionType):
            return " or ".join(map(_told, arguments))
        case origin if origin is Annotated:
            return _told(arguments[0])
        case origin if origin is Literal:
            return "one of " + ", ".join(map(repr, arguments))
        case origin if origin is tuple and arguments:
            if arguments[-1] is Ellipsis:
                return f"a tuple of {_told(arguments[0])}"
            return f"a tuple of {', '.join(map(_told, arguments))}"
    if kind in (None, type(None)):
        return "None"
    return str(getattr(kind, "__name__", kind))


def _remedy(value: Any, kind: Any) -> str:
    """What the author has probably meant."""
    wanted = [kind]
    if typing.get_origin(kind) in (Union, types.UnionType):
        wanted = [one for one in typing.get_args(kind) if one not in (None, type(None))]
    for choice in wanted:
        origin, arguments = typing.get_origin(choice), typing.get_args(choice)
        if origin is Literal:
            return repr(arguments[0])
        if origin is tuple and arguments and _fits(value, arguments[0]):
            return repr((value,))
        if choice in (int, float, str) and type(value) in (str, int, float):
            try:
                return repr(choice(value))
            except (ValueError, OverflowError):  # as int(inf)
                continue
        if choice in _SIMPLE and issubclass(choice, PurePath) and isinstance(value, str):
            return f"{choice.__name__}({value!r})"
    return f"... ({_told(kind)})"
