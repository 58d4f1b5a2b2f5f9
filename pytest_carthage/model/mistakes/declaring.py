"""The functions that authors declare with: all that goes wrong in them is told as a mistake."""

from __future__ import annotations

import dis
import functools
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast

from pytest_carthage.calls import misfit
from pytest_carthage.errors import CarthageError, LayoutError
from pytest_carthage.model.mistakes.culprit import described
from pytest_carthage.model.mistakes.mistake import Mistake
from pytest_carthage.model.mistakes.place import Place, author_frame
from pytest_carthage.model.mistakes.value import Unreadable, readable, shown

if TYPE_CHECKING:
    from types import FrameType

__all__ = ["declared", "declaring", "refusal_of_call", "unforeseen"]

P = ParamSpec("P")
R = TypeVar("R")
C = TypeVar("C", bound=type)

_PLAIN_VALUES = "text, numbers, and lists and mappings of them"
_MEMBERS = ("machine", "network", "image")
_STORES = ("STORE_NAME", "STORE_FAST", "STORE_GLOBAL", "STORE_DEREF")
_ENDS = ("POP_TOP", "RETURN_VALUE", "RETURN_CONST")


def declaring(
    kind: str, *, own: int = 0, reads: bool = True
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Have a function of ours refuse, at the author's line, what cannot be declared.

    Arguments that do not fit get the list of those that there are. Values are read as plain ones
    (:func:`.readable`). What an author's own code raises in it is the cause of the error.

    :param kind: what is declared, for messages: ``"machine"``.
    :param own: number of first arguments that are no author's, as ``self``.
    :param reads: False: values are left as they are.
    """
    take: Callable[[Any], Any] = readable if reads else _same

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            taken: tuple[Any, ...] = args[:own]
            given: dict[str, Any] = {}
            name: int | str = own
            value: Any = None
            try:
                named: Iterable[tuple[int | str, Any]] = kwargs.items()
                for name, value in (*enumerate(args[own:], own), *named):
                    if isinstance(name, str):
                        given[name] = take(value)
                    else:
                        taken = (*taken, take(value))
                return function(*taken, **given)
            except CarthageError:
                raise
            except Unreadable as error:
                where = _called(function, name)
                refusal = _mistake(kind, f"{where}: {error}", _PLAIN_VALUES, error.__cause__)
                raise refusal from refusal.__cause__
            except Exception as error:
                refusal = refusal_of_call(kind, function, args, kwargs, error, own=own)
                raise refusal from refusal.__cause__

        return call

    return decorate


def declared(kind: str) -> Callable[[C], C]:
    """The same for a class whose ``__init__`` a dataclass has made."""

    def decorate(cls: C) -> C:
        made = cast("Any", cls)
        made.__init__ = declaring(kind, own=1)(made.__init__)
        return cls

    return decorate


def unforeseen(who: str, error: Exception, place: Place | None = None) -> LayoutError:
    """The error of a layout in which something of the author's raised what is none of ours.

    :param who: as in ``"layout 'Shop'"``.
    :param place: where it is declared; by default the author's line that is at work.
    """
    remedy = "properties and functions that give the same each time, and do not fail"
    return Mistake(
        what=f"it cannot be read: {described(error)}",
        remedy=remedy,
        place=place or Place.of_author(),
        cause=error,
    ).error(who)


def refusal_of_call(
    kind: str,
    function: Callable[..., Any],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    error: Exception,
    *,
    own: int = 0,
    remedy: str = _PLAIN_VALUES,
) -> LayoutError:
    """The error of a call that failed with something which is none of ours.

    :param remedy: what can be written instead, where the error does not say it.
    """
    if isinstance(error, TypeError):
        wrong = misfit(function, args, kwargs, own=own, unlisted=("place",))
        if wrong is not None:
            return _mistake(kind, wrong.what, wrong.remedy)
    what, end, said = _words(error).partition("; try: ")
    if end and isinstance(error, ValueError):  # in our own words
        _, _, named = kind.rpartition(" ")
        return _mistake(kind, what.removeprefix(f"{named}: "), said)
    written = [*map(shown, args[own:]), *(f"{name}={shown(one)}" for name, one in kwargs.items())]
    what = f"({', '.join(written)}) cannot be read: {described(error)}"
    return _mistake(kind, what, remedy, error)


def _same(value: Any) -> Any:
    return value


def _words(error: Exception) -> str:
    try:
        return str(error)
    except Exception:
        return ""


def _mistake(kind: str, what: str, remedy: str, cause: BaseException | None = None) -> LayoutError:
    place = Place.of_author()
    return Mistake(what=what, remedy=remedy, place=place, cause=cause).error(_subject(kind))


def _called(function: Callable[..., Any], argument: int | str) -> str:
    """An argument in a message, by its name."""
    if isinstance(argument, str):
        return f"{argument}="
    parameters = list(inspect.signature(function).parameters.values())
    parameter = parameters[min(argument, len(parameters) - 1)]
    return f"{parameter.name}="


def _subject(kind: str) -> str:
    """What an author is declaring, as in ``"machine 'web' of layout 'Shop'"``."""
    frame = author_frame()
    in_class = not frame.f_code.co_flags & inspect.CO_NEWLOCALS and "__qualname__" in frame.f_locals
    if not in_class:
        return kind
    member = _assigned(frame)
    between = " " if kind in _MEMBERS else " of "
    return f"{kind}{f'{between}{member!r}' if member else ''} of layout {frame.f_code.co_name!r}"


def _assigned(frame: FrameType) -> str | None:
    """The name that gets the value which a frame is about to compute; None: no name."""
    for instruction in dis.get_instructions(frame.f_code):
        if instruction.offset <= frame.f_lasti:
            continue
        if instruction.opname in _STORES:
            return str(instruction.argval)
        if instruction.opname in _ENDS:
            break
    return None
