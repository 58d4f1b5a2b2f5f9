"""The bridge between callers that wait, coroutines of any event loop, and the one loop of ours.

Nothing heavy is imported here: a layout that is only declared needs no event loop.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import sys
import types
from contextvars import ContextVar
from pathlib import Path
from typing import (
    TYPE_CHECKING,
    Any,
    Concatenate,
    Generic,
    ParamSpec,
    Protocol,
    TypeVar,
    cast,
    overload,
)

from pytest_carthage.calls import closest, misfit
from pytest_carthage.errors import CallError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterator, Mapping

    from pytest_carthage.portal import Portal

__all__ = [
    "Blocks",
    "OnPortal",
    "Opening",
    "TwoFaced",
    "author_folder",
    "block",
    "on_core",
    "opening",
    "operation",
]

P = ParamSpec("P")
R = TypeVar("R")
A = TypeVar("A")
S = TypeVar("S")
R_co = TypeVar("R_co", covariant=True)
S_co = TypeVar("S_co", covariant=True)


#: the file whose code called the operation that runs
_AUTHOR: ContextVar[str | None] = ContextVar("carthage_author", default=None)
#: beginnings of the names of modules whose code is nobody's who asks for something
_PASSED_THROUGH = ("pytest_carthage.", "asyncio.", "concurrent.", "contextlib", "threading")


def author_folder() -> Path:
    """The folder that relative paths given to the operation that runs are of.

    It is that of the file with the code that called it; the working folder where that is no file,
    as in an interactive interpreter.
    """
    file = _AUTHOR.get()
    return Path() if file is None or not Path(file).is_absolute() else Path(file).parent


def _author() -> str | None:
    """The file of the innermost code that is not ours; None: not known, as in a pool of threads."""
    frame: types.FrameType | None = sys._getframe(2)
    while frame is not None and frame.f_globals.get("__name__", "").startswith(_PASSED_THROUGH):
        frame = frame.f_back
    return None if frame is None else frame.f_code.co_filename


async def _called_by(
    author: str | None,
    method: Callable[..., Coroutine[Any, Any, R]],
    instance: Any,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> R:
    """Run what somebody has called."""
    if author is None:  # ours, on behalf of whoever called that
        return await _begun(method, instance, args, kwargs)
    token = _AUTHOR.set(author)
    try:
        return await _begun(method, instance, args, kwargs)
    finally:
        _AUTHOR.reset(token)


class Closes(Protocol):
    """What can be ended; to end it twice is no error."""

    async def aclose(self) -> None:
        """End it."""
        ...


C = TypeVar("C", bound=Closes)


class Opening(Generic[C, S]):
    """Something that begins with ``await``, or that lasts as long as an ``async with`` block.

    ``await`` gives what was begun, whose ``aclose()`` is then the caller's business.
    """

    __slots__ = ("_begin", "_begun", "_facing")

    def __init__(
        self,
        begin: Callable[[], Coroutine[Any, Any, C]],
        facing: Callable[[Opening[C, S], Portal], S],
    ) -> None:
        self._begin = begin
        self._facing = facing
        self._begun: C | None = None

    def __await__(self) -> Generator[Any, None, C]:
        return self._begin().__await__()

    async def __aenter__(self) -> C:
        self._begun = await self._begin()
        return self._begun

    async def __aexit__(self, *exc: object) -> None:
        if self._begun is not None:
            await self._begun.aclose()

    def blocking(self, portal: Portal) -> S:
        """The same for callers that wait."""
        return self._facing(self, portal)


class OnPortal(Protocol):
    """What lives on a portal's event loop."""

    portal: Portal


def on_core(
    method: Callable[Concatenate[A, P], Coroutine[Any, Any, R]],
) -> Callable[Concatenate[A, P], Coroutine[Any, Any, R]]:
    """Let an async method be awaited from any event loop; it always runs on the portal's."""

    async def go(author: str | None, self: A, *args: P.args, **kwargs: P.kwargs) -> R:
        import asyncio

        home: asyncio.AbstractEventLoop = self.portal.loop  # type: ignore[attr-defined]
        if asyncio.get_running_loop() is home:
            return await _called_by(author, method, self, args, kwargs)
        self.portal.refuse_forked(method.__name__)  # type: ignore[attr-defined]
        self.portal.catch_up()  # type: ignore[attr-defined]
        future = asyncio.run_coroutine_threadsafe(
            _called_by(author, method, self, args, kwargs), home
        )
        return await asyncio.wrap_future(future)

    go.__qualname__ = method.__qualname__  # for Python's own messages

    @functools.wraps(method)
    def call(self: A, /, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:
        # who calls is known now: a task that awaits it has another stack
        return go(_author(), self, *args, **kwargs)

    return call


def _begun(
    method: Callable[..., R], instance: object, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> R:
    """Call what an author called.

    :raises CallError: the arguments do not fit.
    """
    try:
        return method(instance, *args, **kwargs)
    except TypeError:
        wrong = misfit(method, (instance, *args), kwargs, own=1)
        if wrong is None:  # of its body
            raise
    who = f"{instance!r}.{method.__name__}()"
    raise CallError(f"{who}: {wrong.what}; try: {wrong.remedy}")


def _fitting(cls: type) -> None:
    """Have plain methods of a face, too, say what there is where arguments do not fit."""
    for base in cls.__mro__:
        if not base.__module__.startswith("pytest_carthage."):
            continue
        for name, method in list(vars(base).items()):
            is_plain = inspect.isfunction(method) and not name.startswith("_")
            if not is_plain or inspect.iscoroutinefunction(method) or hasattr(method, _FITS):
                continue
            setattr(base, name, _fitted(method))


def _fitted(method: Callable[..., R]) -> Callable[..., R]:
    @functools.wraps(method)
    def call(instance: object, /, *args: Any, **kwargs: Any) -> R:
        return _begun(method, instance, args, kwargs)

    setattr(call, _FITS, True)
    return call


def _unknown(instance: object, name: str) -> AttributeError:
    """The error of an attribute that a live object does not have."""
    near = closest(name, (one for one in dir(instance) if not one.startswith("_")))
    return AttributeError(
        f"{instance!r} has no {name!r}{f'; {near}' if near else ''}", name=name, obj=None
    )


_FITS = "__carthage_fits__"


class TwoFaced(Generic[S_co]):
    """An object for coroutines that has another one, :attr:`sync`, for callers that wait."""

    @property
    def sync(self) -> S_co:
        """The same for callers that wait."""
        raise NotImplementedError

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        _fitting(cls)

    if not TYPE_CHECKING:  # a misspelt member stays a type error

        def __getattr__(self, name):
            if name.startswith("_"):
                raise AttributeError(name)
            own = inspect.getattr_static(type(self), name, None)
            if hasattr(own, "__get__"):  # it is there, and failed: with its own words, again
                return own.__get__(self, type(self))
            raise _unknown(self, name)


class Blocks:
    """The face of an object for callers that wait; :attr:`aio` is the object itself.

    A class of operations (:class:`operation`, :class:`opening`, :class:`block`) has two small
    subclasses: the one that has this in front waits, the other one is awaited. What is no
    operation is looked up in :attr:`aio`.
    """

    #: the same as awaitables, for any event loop
    aio: Any

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        _fitting(cls)

    def __repr__(self) -> str:
        return repr(self.aio)

    if not TYPE_CHECKING:  # a misspelt member stays a type error

        def __getattr__(self, name):
            if name == "aio":  # it has not been made yet
                raise AttributeError(name)
            if name.startswith("_") or inspect.getattr_static(self.aio, name, _FITS) is not _FITS:
                return getattr(self.aio, name)
            raise _unknown(self, name)


class operation(Generic[P, R_co]):  # noqa: N801  a decorator
    """Declares what a live object does, once: an async method, which the object has in both faces.

    It runs on the portal's event loop. Whose face waits returns what it returns (in its own face,
    where it is :class:`TwoFaced`); any other one gives a coroutine, for any event loop.
    """

    def __init__(self, method: Callable[Concatenate[Any, P], Coroutine[Any, Any, R_co]]) -> None:
        self._method = method
        self._on_core = on_core(method)
        functools.update_wrapper(cast("Any", self), method)

        @functools.wraps(method)
        def wait(instance: Any, /, *args: Any, **kwargs: Any) -> Any:
            aio, author = instance.aio, _author()

            async def go() -> Any:
                return await _called_by(author, method, aio, args, kwargs)

            go.__qualname__ = method.__name__  # for the message of Portal.call
            returned = aio.portal.call(go)
            return returned.sync if isinstance(returned, TwoFaced) else returned

        self._wait = wait

    @overload
    def __get__(self, instance: None, owner: Any) -> Callable[Concatenate[Any, P], R_co]: ...
    @overload
    def __get__(
        self: operation[P, TwoFaced[S]], instance: Blocks, owner: Any
    ) -> Callable[P, S]: ...
    @overload
    def __get__(self, instance: Blocks, owner: Any) -> Callable[P, R_co]: ...
    @overload
    def __get__(self, instance: object, owner: Any) -> Callable[P, Coroutine[Any, Any, R_co]]: ...
    def __get__(self, instance: Any, owner: Any) -> Any:
        if instance is None:  # for help() and the reference
            return self._wait if issubclass(owner, Blocks) else self._method
        face = self._wait if isinstance(instance, Blocks) else self._on_core
        return types.MethodType(face, instance)


class opening(Generic[P, C, S]):  # noqa: N801  a decorator
    """Declares, once, what begins something: a method that gives an :class:`Opening`.

    Whose face waits gives the opening's own form for callers that wait.
    """

    def __init__(self, method: Callable[Concatenate[Any, P], Opening[C, S]]) -> None:
        self._method = method
        functools.update_wrapper(cast("Any", self), method)

        @functools.wraps(method)
        def wait(instance: Any, /, *args: Any, **kwargs: Any) -> S:
            aio = instance.aio
            return _begun(method, aio, args, kwargs).blocking(aio.portal)

        self._wait = wait
        self._begin = _fitted(method)

    @overload
    def __get__(self, instance: None, owner: Any) -> Callable[Concatenate[Any, P], S]: ...
    @overload
    def __get__(self, instance: Blocks, owner: Any) -> Callable[P, S]: ...
    @overload
    def __get__(self, instance: object, owner: Any) -> Callable[P, Opening[C, S]]: ...
    def __get__(self, instance: Any, owner: Any) -> Any:
        if instance is None:
            return self._wait if issubclass(owner, Blocks) else self._method
        face = self._wait if isinstance(instance, Blocks) else self._begin
        return types.MethodType(face, instance)


class block(Generic[P, R_co]):  # noqa: N801  a decorator
    """Declares, once, what lasts as long as a block: ``async with``, or ``with``.

    The method gives an asynchronous context manager, which is entered and left on the portal's
    event loop.
    """

    def __init__(
        self, method: Callable[Concatenate[Any, P], contextlib.AbstractAsyncContextManager[R_co]]
    ) -> None:
        self._method = method
        functools.update_wrapper(cast("Any", self), method)

        @functools.wraps(method)
        @contextlib.contextmanager
        def wait(instance: Any, /, *args: Any, **kwargs: Any) -> Iterator[R_co]:
            portal: Portal = instance.aio.portal
            lasting = _begun(method, instance.aio, args, kwargs)
            entered = portal.call(lasting.__aenter__)
            try:
                yield entered
            finally:
                portal.call(lasting.__aexit__, *sys.exc_info())

        @functools.wraps(method)
        @contextlib.asynccontextmanager
        async def on_portal(instance: Any, /, *args: Any, **kwargs: Any) -> AsyncIterator[R_co]:
            portal: Portal = instance.portal
            lasting = _begun(method, instance, args, kwargs)
            entered = await _on(portal, lasting.__aenter__)
            try:
                yield entered
            finally:
                await _on(portal, lasting.__aexit__, *sys.exc_info())

        self._wait = wait
        self._on_portal = on_portal

    @overload
    def __get__(
        self, instance: None, owner: Any
    ) -> Callable[Concatenate[Any, P], contextlib.AbstractContextManager[R_co]]: ...
    @overload
    def __get__(
        self, instance: Blocks, owner: Any
    ) -> Callable[P, contextlib.AbstractContextManager[R_co]]: ...
    @overload
    def __get__(
        self, instance: object, owner: Any
    ) -> Callable[P, contextlib.AbstractAsyncContextManager[R_co]]: ...
    def __get__(self, instance: Any, owner: Any) -> Any:
        if instance is None:
            return self._wait if issubclass(owner, Blocks) else self._method
        face = self._wait if isinstance(instance, Blocks) else self._on_portal
        return types.MethodType(face, instance)


async def _on(portal: Portal, function: Callable[..., Coroutine[Any, Any, R]], *args: Any) -> R:
    """Run a coroutine on the portal's event loop, from whichever there is."""
    import asyncio

    if asyncio.get_running_loop() is portal.loop:
        return await function(*args)
    portal.refuse_forked(function.__qualname__)
    return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(function(*args), portal.loop))
