"""What the first process of a system container says beside what its agent does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_carthage.fabric.container.console import Console, Readiness

if TYPE_CHECKING:
    from pytest_carthage.fabric.wire.server import Server
    from pytest_carthage.fabric.wire.steps import Steps


class Voice:
    """The console of a first process, and the readiness of an init, while it lives."""

    def __init__(self, log: str, server: Server) -> None:
        self._log = log
        self._server = server
        self._console: Console | None = None
        self._readiness: Readiness | None = None

    @property
    def is_init(self) -> bool:
        """Whether it has become an init, which tells when it has started all that it should."""
        return self._readiness is not None

    def take(self, step: str, fd: int) -> bool:
        """Take a descriptor that it gives; returns whether it is one that is expected."""
        if step in ("outer", "printed") and self._console is None:
            self._console = Console(fd, self._log)
            self._server.watch(fd, self._print)
        elif step == "inner" and self._console is not None:
            self._console.keep(fd)
        elif step == "notify" and self._readiness is None:
            self._readiness = Readiness(fd)
            self._server.watch(fd, self._readiness.hear)
        else:
            return False
        return True

    def _print(self) -> None:
        if self._console is not None and not self._console.read() and not self._console.is_open:
            self._close_console()

    def _close_console(self) -> None:
        if self._console is not None:
            self._server.unwatch(self._console.fileno())
            self._console.close()
            self._console = None

    def booted(self, limit_s: float) -> Steps[bool]:
        """Wait until the init has started all that it should; returns whether it has, in time."""
        if self._readiness is None:
            return True
        return (yield from self._readiness.wait(limit_s))

    def close(self) -> None:
        """Take what is left of what it printed, and let go of it."""
        self._close_console()
        if self._readiness is not None:
            readiness, self._readiness = self._readiness, None
            self._server.unwatch(readiness.fileno())
            readiness.close()
