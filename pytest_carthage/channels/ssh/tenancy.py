"""The lease that a deputy has laid down: renewed as long as it lives, and when it comes back."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from pytest_carthage.channels import scripts
from pytest_carthage.channels.ssh import lease
from pytest_carthage.channels.ssh.session import carried_out
from pytest_carthage.errors import FabricError

if TYPE_CHECKING:
    import asyncssh

    from pytest_carthage.channels.ssh.becoming import Becoming
    from pytest_carthage.channels.ssh.line import Line
    from pytest_carthage.fabric.wire.server import Server

__all__ = ["Tenancy"]


class Tenancy:
    """Keeps a host this run's, and says when it is another's by now.

    :param lost: is called, in the server's thread, with why nothing more may be done there.
    """

    def __init__(
        self,
        line: Line,
        server: Server,
        *,
        becoming: Callable[[], Becoming],
        lost: Callable[[FabricError], None],
    ) -> None:
        self._line = line
        self._server = server
        self._becoming = becoming
        self._lost = lost
        #: what is said to renew it: identity, record, seconds, and in which boot it was laid down
        self._words: tuple[str, str, str, str] | None = None
        self._seconds = 0.0
        line.on_reopened = self._renew_by

    def begin(self, identity: str, record: str, seconds: float, boot: str) -> None:
        """It has been laid down in this boot of the host's."""
        self._words = identity, record, f"{seconds:.0f}", boot
        self._seconds = seconds
        self._later()

    def _later(self) -> None:
        self._server.later(self._seconds / 3, self._renew)

    def _renew(self) -> None:
        if self._words is None:
            return

        def done(error: BaseException | None) -> None:
            if error is not None:
                print(f"the lease was not renewed: {error}", flush=True)
            self._later()

        self.renew(done)

    def renew(self, then: Callable[[BaseException | None], None]) -> None:
        """Renew it now.

        :param then: is told why that could not be, or that it could.
        """

        async def renew() -> None:
            await self._renew_by(await self._line.connection())

        self._line.begin(renew(), lambda result, error: then(error))

    async def _renew_by(self, connection: asyncssh.SSHClientConnection) -> None:
        """Renew it; where the host has booted since, and nobody was faster, lay it down anew.

        :raises FabricError: it is another's, or was broken.
        """
        if self._words is None:
            return
        argv = scripts.shell(lease.RENEW, *self._words)
        _, out, err = await carried_out(connection, self._becoming(), argv)
        said = out.decode(errors="replace")
        try:
            held = lease.state_of(said)
        except ValueError as error:  # of a full disk, say; the next time may be in time
            print(f"the lease was not renewed: {error}; {scripts.last_line(err)}", flush=True)
            return
        if held is None and not said.startswith("free"):
            self._words = (*self._words[:3], lease.boot_of(said))
            return
        self._words = None
        whose = f": it is {held.owner}'s now" if held is not None else ""
        lost = FabricError(
            f"ssh {self._line.way}: its lease was broken while it was used{whose}; nothing more is "
            "done there"
        )
        self._line.tell(lambda: self._lost(lost))
        raise lost
