"""When a main process that has ended is started again: what docker and podman call its policy."""

from __future__ import annotations

_FIRST_S = 0.1
_MOST_S = 60.0
#: a process that has run for so long has started well
_WELL_S = 10.0


class Restarting:
    """The restarts of one main process.

    The first one comes after 0.1 s, each next one after twice the time, up to a minute; after a
    life of 10 s it begins anew.
    """

    def __init__(self, policy: str) -> None:
        """:param policy: ``no``, ``always``, ``on-failure`` or, three times at most,
        ``on-failure:3``.
        """
        self._name, _, most = policy.partition(":")
        self._most = int(most) if most else None
        self._pause_s = 0.0
        #: how often it was started again
        self.count = 0

    @property
    def is_on(self) -> bool:
        """Whether it may be started again at all."""
        return self._name != "no"

    def after(self, status: int, lived_s: float) -> float | None:
        """Seconds after which it is to be started again, now that it has ended; None: it is not."""
        if lived_s >= _WELL_S:
            self._pause_s = 0.0
        self._pause_s = min(2 * self._pause_s, _MOST_S) or _FIRST_S
        if self._name == "on-failure":
            is_wanted = status != 0 and (self._most is None or self.count < self._most)
        else:
            is_wanted = self._name == "always"
        return self._pause_s if is_wanted else None
