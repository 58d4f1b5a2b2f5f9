"""A time limit on synchronous code of the main thread."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

__all__ = ["Alarm"]

# A signal that nobody else uses: SIGALRM is pytest-timeout's, and cannot be shared.
_NUMBER = signal.SIGRTMIN + 7


class Alarm:
    """Raises an exception in the main thread once a block has taken too long.

    Elsewhere than in the main thread a block runs without a limit: Python delivers signals to
    that one alone.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._error: BaseException | None = None
        self._previous: object = None
        self._installed = False

    @contextlib.contextmanager
    def after(self, limit_s: float | None, error: BaseException) -> Iterator[None]:
        """Raise ``error`` in the block when it is still running after ``limit_s`` seconds."""
        if limit_s is None or threading.current_thread() is not threading.main_thread():
            yield
            return
        if not self._installed:
            # it stays until close(): a signal that comes late must find a handler
            self._previous = signal.signal(_NUMBER, self._ring)
            self._installed = True
        main = threading.get_ident()
        over = threading.Event()

        def ring() -> None:
            with self._lock:
                if not over.is_set():
                    self._error = error
                    signal.pthread_kill(main, _NUMBER)

        timer = threading.Timer(limit_s, ring)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            with self._lock:
                over.set()
                self._error = None
            timer.cancel()

    def _ring(self, number: int, frame: FrameType | None) -> None:
        error, self._error = self._error, None
        if error is not None:
            raise error

    def close(self) -> None:
        """Give the signal back."""
        if self._installed:
            signal.signal(_NUMBER, signal.SIG_IGN)
            self._installed = False
