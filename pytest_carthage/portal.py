"""The bridge between synchronous callers and the one event loop, in a thread of its own."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import functools
import os
import threading
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Generator

P = ParamSpec("P")
R = TypeVar("R")
A = TypeVar("A")


class Closes(Protocol):
    """What can be ended; to end it twice is no error."""

    async def aclose(self) -> None:
        """End it."""
        ...


C = TypeVar("C", bound=Closes)


class Opening(Generic[C]):
    """Something that begins with ``await``, or that lasts as long as an ``async with`` block.

    ``await`` gives what was begun, whose ``aclose()`` is then the caller's business.
    """

    __slots__ = ("_begin", "_begun")

    def __init__(self, begin: Callable[[], Coroutine[Any, Any, C]]) -> None:
        self._begin = begin
        self._begun: C | None = None

    def __await__(self) -> Generator[Any, None, C]:
        return self._begin().__await__()

    async def __aenter__(self) -> C:
        self._begun = await self._begin()
        return self._begun

    async def __aexit__(self, *exc: object) -> None:
        if self._begun is not None:
            await self._begun.aclose()


class Portal:
    """An event loop in its own thread; :meth:`call` runs a coroutine there and waits for it."""

    def __init__(self) -> None:
        started = threading.Event()
        self.loop = asyncio.new_event_loop()
        self._followed: int | None = None
        self._thread = threading.Thread(
            target=self._run, args=(started,), name="carthage", daemon=True
        )
        self._thread.start()
        started.wait()

    def _run(self, started: threading.Event) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.call_soon(started.set)
        while not self._run_until_stopped():
            pass
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        self.loop.close()

    def _run_until_stopped(self) -> bool:
        try:
            self.loop.run_forever()
        except (SystemExit, KeyboardInterrupt):  # of somebody's code in a task, whose result it is
            return False
        return True

    def call(
        self, function: Callable[P, Coroutine[Any, Any, R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """Run ``function`` on the event loop and return what it returns.

        A KeyboardInterrupt in the caller cancels it, and is raised once it has ended.

        :raises RuntimeError: called from the event loop itself, where it would wait for ever.
        """
        if threading.current_thread() is self._thread:
            raise RuntimeError(
                f"{getattr(function, '__qualname__', function)} was called on the event loop "
                "that has to carry it out; in async code use .aio and await"
            )
        self.catch_up()
        future = asyncio.run_coroutine_threadsafe(function(*args, **kwargs), self.loop)
        try:
            return future.result()
        except BaseException:
            if not future.done():
                future.cancel()
                concurrent.futures.wait([future], timeout=60)
            raise

    def follow(self, thread: int) -> None:
        """Have the event loop's thread go where a thread goes whose working folder is its own."""
        self._followed = thread

    def catch_up(self) -> None:
        """Go where the calling thread is, if it is the one to be followed."""
        if self._followed == threading.get_ident():
            self.loop.call_soon_threadsafe(_change_folder, os.getcwd())  # noqa: PTH109  a syscall

    def close(self) -> None:
        """Stop the event loop; tasks that are left are cancelled first."""
        if not self._thread.is_alive():
            return

        async def cancel_all() -> None:
            tasks = [t for t in asyncio.all_tasks() if t is not asyncio.current_task()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        self.call(cancel_all)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()


def _change_folder(path: str) -> None:
    with contextlib.suppress(OSError):
        os.chdir(path)


class OnPortal(Protocol):
    """What lives on a portal's event loop."""

    portal: Portal


def on_core(
    method: Callable[Concatenate[A, P], Coroutine[Any, Any, R]],
) -> Callable[Concatenate[A, P], Coroutine[Any, Any, R]]:
    """Let an async method be awaited from any event loop; it always runs on the portal's."""

    @functools.wraps(method)
    async def call(self: A, /, *args: P.args, **kwargs: P.kwargs) -> R:
        home: asyncio.AbstractEventLoop = self.portal.loop  # type: ignore[attr-defined]
        if asyncio.get_running_loop() is home:
            return await method(self, *args, **kwargs)
        self.portal.catch_up()  # type: ignore[attr-defined]
        future = asyncio.run_coroutine_threadsafe(method(self, *args, **kwargs), home)
        return await asyncio.wrap_future(future)

    return call


class Facade(Protocol):
    """A synchronous view of an asynchronous object."""

    aio: Any


def bridged(
    method: Callable[Concatenate[A, P], Awaitable[R]],
) -> Callable[Concatenate[Any, P], R]:
    """The synchronous form of an async method, for a class whose ``aio`` has that method."""

    @functools.wraps(method)
    def call(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> R:
        async def go() -> R:
            return await method(self.aio, *args, **kwargs)

        go.__qualname__ = method.__name__  # for the message of Portal.call
        return self.aio.portal.call(go)  # type: ignore[no-any-return]

    return call
