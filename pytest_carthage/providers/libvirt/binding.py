"""libvirt-python: loaded when it is needed, called in threads, its events heard in one of them."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

from pytest_carthage import clock
from pytest_carthage.errors import CarthageError
from pytest_carthage.providers.libvirt import lives

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterator

__all__ = ["Connection", "Refused", "in_thread"]

T = TypeVar("T")

#: a libvirtd that says nothing for so many times so long is gone
_ALIVE_S, _ALIVE_TIMES = 10, 4
#: the longest that one may take to let somebody in
OPEN_S = 30.0
_LOOK_S = 1.0
#: requests under way at once, in all environments of this process
_THREADS = 16
_threads: list[ThreadPoolExecutor] = []
_events: list[threading.Thread] = []
_loading = threading.Lock()


class Refused(CarthageError):
    """libvirt refused a request, or did not answer."""

    def __init__(self, message: str, code: int, *, is_gone: bool = False) -> None:
        super().__init__(message)
        #: of ``virErrorNumber``
        self.code = code
        #: whether nobody answers any more: the daemon has ended, or the way to it is cut
        self.is_gone = is_gone


async def in_thread(function: Callable[..., T], *arguments: Any) -> T:
    """Call what blocks in a thread; that cannot be cancelled, so that cancellation takes effect
    when it is done."""
    if not _threads:
        _threads.append(ThreadPoolExecutor(_THREADS, thread_name_prefix="libvirt"))
    work = asyncio.get_running_loop().run_in_executor(_threads[0], function, *arguments)
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        with contextlib.suppress(Exception):
            await work
        raise


def _load() -> Any:
    """The module, whose events are heard from now on: it must be told so before it connects."""
    with _loading:
        libvirt = importlib.import_module("libvirt")
        if not _events:
            # it would print each error, beside raising it
            libvirt.registerErrorHandler(lambda context, error: None, None)
            libvirt.virEventRegisterDefaultImpl()
            _events.append(threading.Thread(target=_hear, args=[libvirt], daemon=True))
            _events[0].name = "libvirt-events"
            _events[0].start()
    return libvirt


def _hear(libvirt: Any) -> None:
    while True:
        try:
            libvirt.virEventRunDefaultImpl()
        except libvirt.libvirtError:
            return  # nothing can be heard; whoever asks still gets an answer


class Connection:
    """A connection to a libvirtd; what happens to its domains is told to who listens.

    :param uri: see https://libvirt.org/uri.html.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self._libvirt: Any = None
        self._connection: Any = None
        self._opening = asyncio.Lock()
        #: name of a domain to who is told of its events
        self._listeners: dict[str, Callable[[int, int], None]] = {}
        self._loop = asyncio.get_running_loop()
        #: is called, on this event loop, when nobody is at the other end any more
        self.on_cut: Callable[[], None] = lambda: None
        self._was_open = False
        #: since when somebody waits to be let in, or out; None: nobody does
        self._since_s: float | None = None

    @property
    def _waiting_s(self) -> float:
        """For how long somebody has waited to be let in, or to be let go."""
        since_s = self._since_s
        return 0.0 if since_s is None else clock.monotonic_s() - since_s

    async def call(self, function: Callable[[Any, Any], T]) -> T:
        """Call ``function(libvirt, connection)`` in a thread, with the module and a virConnect.

        :raises Refused: with libvirt's own words.
        """
        async with self._opening:
            if self._connection is None:
                with self._waiting():
                    await in_thread(self._open)
            connection = self._connection
        if connection is None:  # it was cut at once
            raise Refused("the connection to libvirt is closed", 0, is_gone=True)
        return await in_thread(self._mapped, function, connection)

    async def watched(
        self, call: Coroutine[Any, Any, T], on_hang: Callable[[], Awaitable[None]]
    ) -> T:
        """Wait for a call of this connection's; a thread in which one hangs cannot be ended.

        A libvirtd that does not answer who is in is noticed by libvirt itself.

        :param on_hang: has a libvirtd that lets nobody in, or out, or the way to it, end.
        """
        task = asyncio.ensure_future(call)
        cancelled: asyncio.CancelledError | None = None
        while not task.done():
            try:
                await asyncio.wait({task}, timeout=_LOOK_S)
            except asyncio.CancelledError as error:  # a thread cannot be: it ends as told
                cancelled = error
                task.cancel()
            if not task.done() and self._waiting_s > OPEN_S:
                await on_hang()
        if cancelled is not None:
            task.cancelled() or task.exception()
            raise cancelled
        return task.result()

    def listen(self, domain: str, listener: Callable[[int, int], None]) -> None:
        """Have the events of a domain told to ``listener(event, detail)``, on this event loop.

        They are those of ``virDomainEventType``, and what :mod:`.lives` adds to them.
        """
        self._listeners[domain] = listener

    def forget(self, domain: str) -> None:
        """Tell nobody of this domain any more."""
        self._listeners.pop(domain, None)

    async def close(self) -> None:
        """Let go of it."""
        async with self._opening:
            connection, self._connection = self._connection, None
            self._was_open = False
        if connection is not None:
            with self._waiting():
                with contextlib.suppress(Exception):
                    await in_thread(connection.unregisterCloseCallback)
                with contextlib.suppress(Exception):
                    await in_thread(connection.close)

    @contextlib.contextmanager
    def _waiting(self) -> Iterator[None]:
        self._since_s = clock.monotonic_s()
        try:
            yield
        finally:
            self._since_s = None

    def _open(self) -> None:
        libvirt = self._libvirt = _load()

        def steps(_: Any, __: Any) -> None:
            connection = libvirt.open(self.uri)
            register = connection.domainEventRegisterAny
            register(None, libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, self._lifecycle, None)
            register(None, libvirt.VIR_DOMAIN_EVENT_ID_REBOOT, self._rebooted, None)
            connection.registerCloseCallback(self._closed, None)
            connection.setKeepAlive(_ALIVE_S, _ALIVE_TIMES)
            self._connection = connection
            if self._was_open:
                self._find_out(libvirt, connection)
            self._was_open = True

        self._mapped(steps, None)

    def _find_out(self, libvirt: Any, connection: Any) -> None:
        """Tell those who listen of what nobody could hear while there was no connection."""
        missed = {
            libvirt.VIR_DOMAIN_SHUTOFF_SHUTDOWN: libvirt.VIR_DOMAIN_EVENT_STOPPED_SHUTDOWN,
            libvirt.VIR_DOMAIN_SHUTOFF_DESTROYED: libvirt.VIR_DOMAIN_EVENT_STOPPED_DESTROYED,
            libvirt.VIR_DOMAIN_SHUTOFF_SAVED: libvirt.VIR_DOMAIN_EVENT_STOPPED_SAVED,
        }
        for name in list(self._listeners):
            try:
                state, why = connection.lookupByName(name).state()
            except libvirt.libvirtError as error:
                if error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN:
                    raise
                continue
            if state == libvirt.VIR_DOMAIN_SHUTOFF:
                failed = libvirt.VIR_DOMAIN_EVENT_STOPPED_FAILED
                self._tell(name, lives.FOUND_OFF, missed.get(why, failed))
            elif state == libvirt.VIR_DOMAIN_CRASHED:  # its kernel has panicked
                self._tell(name, libvirt.VIR_DOMAIN_EVENT_CRASHED, 0)
                self._tell(name, lives.FOUND_OFF, libvirt.VIR_DOMAIN_EVENT_STOPPED_DESTROYED)

    def _mapped(self, function: Callable[[Any, Any], T], connection: Any) -> T:
        libvirt = self._libvirt
        try:
            return function(libvirt, connection)
        except libvirt.libvirtError as error:
            domain, code = error.get_error_domain(), error.get_error_code()
            is_gone = domain == libvirt.VIR_FROM_RPC or code == libvirt.VIR_ERR_NO_CONNECT
            text = str(error).strip()
            if is_gone and connection in (None, self._connection):
                self._connection = None  # the next one who asks connects anew
            raise Refused(text, code, is_gone=is_gone) from error

    # called in the thread of the events

    def _closed(self, connection: Any, reason: int, _: Any) -> None:
        def cut() -> None:
            if self._connection is not None and self._connection is not connection:
                return  # there is another one by now
            if self._was_open:
                self._connection = None  # the next one who asks connects anew
                self.on_cut()

        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(cut)

    def _lifecycle(self, connection: Any, domain: Any, event: int, detail: int, _: Any) -> None:
        self._tell(domain.name(), event, detail)

    def _rebooted(self, connection: Any, domain: Any, _: Any) -> None:
        self._tell(domain.name(), lives.RESET, 0)

    def _tell(self, name: str, event: int, detail: int) -> None:
        def tell() -> None:
            listener = self._listeners.get(name)
            if listener is not None:
                listener(event, detail)

        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(tell)
