"""Stages: what is done to a live layout before the tests, as fixtures."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar, overload

from pytest_carthage.model.keys.key import function_key
from pytest_carthage.model.mistakes.declaring import declaring
from pytest_carthage.model.mistakes.mistake import Mistake
from pytest_carthage.model.mistakes.place import Place
from pytest_carthage.model.parameters import is_time_limit
from pytest_carthage.model.scope import ATTRIBUTE as SCOPE
from pytest_carthage.model.scope import Follows, Scope, Scoped, check_scope

__all__ = ["Stage", "stage"]

AnyFunction = TypeVar("AnyFunction", bound=Callable[..., Any])

#: attribute of the fixture function that holds its stage
ATTRIBUTE = "__carthage_stage__"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A function whose parameters are fixtures, run once for each environment that it is given."""

    name: str
    function: Callable[..., Any]
    #: None: that of the layouts which it is given, the narrowest of them
    scope: Scope | None = None
    #: None: as long as it takes
    timeout_s: float | None = None
    place: Place

    @property
    def key(self) -> str:
        """Content key: changes with the source text of the function."""
        return function_key(self.function)

    @property
    def needs(self) -> tuple[str, ...]:
        """Names of the fixtures that it is given."""
        return tuple(inspect.signature(self.function).parameters)

    @property
    def is_async(self) -> bool:
        """Whether the function is to be awaited."""
        return inspect.iscoroutinefunction(self.function)


@overload
def stage(function: AnyFunction, /) -> AnyFunction: ...


@overload
def stage(
    *, timeout_s: float | None = None, name: str | None = None, scope: Scope | None = None
) -> Callable[[AnyFunction], AnyFunction]: ...


@declaring("stage")
def stage(
    function: Callable[..., Any] | None = None,
    /,
    *,
    timeout_s: float | None = None,
    name: str | None = None,
    scope: Scope | None = None,
) -> Any:
    """Make a function (async or not) a stage: a fixture with name and time limit.

    Its parameters are fixtures. What it returns is the fixture's value. An async function runs
    on the loop on which the layouts live.

    :param timeout_s: time limit; None: as long as it takes.
    :param name: name of the fixture, by default the function's.
    :param scope: of the fixture; None: that of the layouts which it is given, and where they
        differ, the narrowest. It cannot be wider than theirs.
    :raises LayoutError: the function cannot be a stage.
    """
    place = Place.of_author()
    if function is None:
        return lambda decorated: _fixture(decorated, timeout_s, name, scope, place)
    return _fixture(function, timeout_s, name, scope, place)


def _fixture(
    function: Callable[..., Any],
    timeout_s: float | None,
    name: str | None,
    scope: Scope | None,
    place: Place,
) -> Any:
    _refuse_what_is_no_stage(function, timeout_s, place)
    if scope is not None:
        check_scope(scope, f"stage {function.__name__!r}", "@stage(scope={})")
    code = inspect.unwrap(function).__code__
    made = Stage(
        name=name or function.__name__,
        function=function,
        scope=scope,
        timeout_s=timeout_s,
        place=Place(file=code.co_filename, line=code.co_firstlineno),
    )
    wanted = inspect.signature(function)
    passes_request = "request" in wanted.parameters

    def run(**arguments: Any) -> Any:
        __tracebackhide__ = True  # pytest's: the author's own frames are what to see
        from pytest_carthage.door import door_of

        request = arguments["request"] if passes_request else arguments.pop("request")
        return door_of(request, f"stage {made.name!r}").run_stage(made, arguments, request)

    parameters = [
        parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for parameter in wanted.parameters.values()
    ]
    if not passes_request:
        parameters.append(inspect.Parameter("request", inspect.Parameter.KEYWORD_ONLY))
    functools.update_wrapper(run, function)  # pytest shows the author's line for the fixture
    run.__signature__ = wanted.replace(parameters=parameters)  # type: ignore[attr-defined]
    setattr(run, ATTRIBUTE, made)

    import pytest

    chosen: Any = scope or Follows(function)
    scoped = Scoped(name=made.name, scope=chosen)
    setattr(run, SCOPE, scoped)
    fixture: Any = pytest.fixture(scope=chosen, name=name)(run)
    setattr(fixture, ATTRIBUTE, made)
    setattr(fixture, SCOPE, scoped)
    return fixture


def _refuse_what_is_no_stage(function: object, timeout_s: object, place: Place) -> None:
    def refuse(what: str, remedy: str) -> None:
        called = getattr(function, "__name__", repr(function))
        raise Mistake(what=what, remedy=remedy, place=place).error(f"stage {called!r}")

    if not inspect.isroutine(function):
        refuse("it is not a function", "@stage above a def, or @stage(timeout_s=60)")
        return
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        refuse("it yields, but a stage has nothing to undo", "return instead of yield")
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            refuse(
                f"parameter '{parameter}' does not name a fixture",
                "one parameter for each fixture",
            )
    if not is_time_limit(timeout_s):
        refuse(f"timeout_s {timeout_s!r} is not a positive number", "@stage(timeout_s=600)")
