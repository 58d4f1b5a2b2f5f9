"""The one event loop, in a thread of its own; what is bridged to it is in ``bridge``."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import os
import threading
from concurrent.futures import wait
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    ParamSpec,
    TypeVar,
)

from pytest_carthage import clock
from pytest_carthage.errors import ForkedError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

P = ParamSpec("P")
R = TypeVar("R")

#: what a call that is interrupted has to put in order what it has begun
_END_S = 60.0
#: how long a wait lasts at a time, see :func:`outcome`
_LOOK_S = 0.2


class Loop(asyncio.SelectorEventLoop):
    """An event loop that goes by the machine's clock, whatever a test makes of Python's."""

    def time(self) -> float:
        """Seconds, of no particular beginning."""
        return clock.monotonic_s()


class Portal:
    """An event loop in its own thread; :meth:`call` runs a coroutine there and waits for it."""

    #: the thread of this process whose working folder is its own, and whom all portals follow
    _followed: ClassVar[int | None] = None

    def __init__(self) -> None:
        started = threading.Event()
        self.loop = Loop()
        #: of the process in which its thread is: one that is forked has no such thread
        self._pid = os.getpid()
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
        :raises ForkedError: called in a process that was forked from that of the event loop.
        """
        name = getattr(function, "__qualname__", str(function))
        self.refuse_forked(name)
        if threading.current_thread() is self._thread:
            raise RuntimeError(
                f"{name} was called on the event loop "
                "that has to carry it out; in async code use .aio and await"
            )
        self.catch_up()
        future = asyncio.run_coroutine_threadsafe(function(*args, **kwargs), self.loop)
        try:
            return outcome(future)
        except BaseException:
            if not future.done():
                future.cancel()
                deadline = clock.monotonic_s() + _END_S
                # it is over when the task is, which is later than `done()`
                while clock.monotonic_s() < deadline and not wait([future], _LOOK_S).done:
                    pass
            raise

    def refuse_forked(self, name: str) -> None:
        """Refuse what would wait for ever in a process that was forked: nobody works here.

        :param name: of what was called.
        :raises ForkedError: this is one.
        """
        if self.is_elsewhere:
            raise ForkedError(name, self._pid)

    @property
    def is_elsewhere(self) -> bool:
        """Whether its event loop is in another process, from which this one was forked."""
        return os.getpid() != self._pid

    @classmethod
    def follow(cls, thread: int) -> None:
        """Have event loops' threads go where a thread goes whose working folder is its own."""
        cls._followed = thread

    def catch_up(self) -> None:
        """Go where the calling thread is, if it is the one to be followed."""
        if self._followed == threading.get_ident():
            self.loop.call_soon_threadsafe(_change_folder, os.getcwd())  # noqa: PTH109  a syscall

    def close(self) -> None:
        """Stop the event loop; tasks that are left are cancelled first."""
        if self.is_elsewhere or not self._thread.is_alive():
            return

        async def cancel_all() -> None:
            tasks = [t for t in asyncio.all_tasks() if t is not asyncio.current_task()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        self.call(cancel_all)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()


def outcome(future: concurrent.futures.Future[R]) -> R:
    """What becomes of a future, for a thread that waits for that; signals disturb its wait.

    The kernel may give a signal to any thread, for one to a second one when the main thread has
    another signal to take just then. Python handles it in the main thread alone, and a lock for
    which that waits does not wake it.
    """
    while True:
        try:
            return future.result(_LOOK_S)
        except TimeoutError:
            if future.done():  # by now, or with a TimeoutError of its own
                return future.result()


def _change_folder(path: str) -> None:
    with contextlib.suppress(OSError):
        os.chdir(path)
