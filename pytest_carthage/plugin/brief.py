"""Progress of what comes again and again: shown once it takes long, or fails."""

from __future__ import annotations

import threading

from pytest_carthage.events import Event, Reporter

__all__ = ["Brief"]


class Brief:
    """Holds back the events of short work, and passes on those of long work.

    Fifty environments, each there for one test, would hide the tests.

    :param shown: whoever gets the events that a person should see.
    :param patience_s: work that takes longer is shown from its beginning on, while it goes on.
    """

    def __init__(self, shown: Reporter, *, patience_s: float = 1.0) -> None:
        self._shown = shown
        self._patience_s = patience_s
        self._lock = threading.RLock()
        #: subjects that are worked on
        self._open: set[tuple[str, str]] = set()
        self._held: list[Event] = []
        self._is_long = False
        self._timer: threading.Timer | None = None

    def event(self, event: Event, /) -> None:
        """Take in an event of this piece of work."""
        with self._lock:
            subject = event.environment, event.subject
            if event.kind == "note" and not self._open:
                self._shown.event(event)
                return
            if event.kind == "start":
                if not self._open:
                    self._begin()
                self._open.add(subject)
            elif event.closes:
                self._open.discard(subject)
            if self._is_long:
                self._shown.event(event)
            else:
                self._held.append(event)
                if event.kind == "failed":
                    self._show()
            if not self._open:
                self._end()

    def _begin(self) -> None:
        self._timer = threading.Timer(self._patience_s, self._show)
        self._timer.daemon = True
        self._timer.start()

    def _show(self) -> None:
        """Show what was held back, and all that comes until this work is done."""
        with self._lock:
            self._is_long = True
            held, self._held = self._held, []
            for event in held:
                self._shown.event(event)

    def _end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._held.clear()
        self._is_long = False
