"""Async functions of an author's, run to their end from synchronous code."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from pytest_carthage.portal import Loop, outcome

__all__ = ["run_async"]


def run_async(
    function: Callable[[], Awaitable[Any]], *, timeout_s: float | None, late: BaseException
) -> Any:
    """Run an async function on an event loop of its own, in this thread; gives what it returns.

    So whatever it does, a signal reaches it, and the layouts' event loop goes on meanwhile. Where
    this thread runs an event loop already, it is a thread of its own.

    :param late: is raised when it has not ended in time.
    """
    __tracebackhide__ = True
    if not _is_loop_running():
        return _run(function, timeout_s, late)
    # an async test asks for a stage by request.getfixturevalue()
    with ThreadPoolExecutor(1, thread_name_prefix="stage") as thread:
        return outcome(thread.submit(_run, function, timeout_s, late))


def _is_loop_running() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _run(
    function: Callable[[], Awaitable[Any]], timeout_s: float | None, late: BaseException
) -> Any:
    # not Runner.run(): its handler lets code that blocks go on after Ctrl-C
    with asyncio.Runner(loop_factory=Loop) as runner:
        _look_up(runner.get_loop())
        return runner.get_loop().run_until_complete(_limited(function, timeout_s, late))


def _look_up(loop: asyncio.AbstractEventLoop) -> None:
    """Wake a loop now and then: a signal that another thread has taken does not."""
    loop.call_later(0.2, _look_up, loop)


async def _limited(
    function: Callable[[], Awaitable[Any]], timeout_s: float | None, late: BaseException
) -> Any:
    limit = asyncio.timeout(timeout_s)
    try:
        async with limit:
            return await function()
    except TimeoutError:
        if limit.expired():
            raise late from None
        raise
