"""One connection of an ssh client to a machine."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Awaitable

import asyncssh

from pytest_carthage.channels.agent import Interrupted, execute
from pytest_carthage.errors import CarthageError, FabricError
from pytest_carthage.fabric.wire.channel import AsyncChannel
from pytest_carthage.ssh.forwarding import forward
from pytest_carthage.ssh.session import Session

__all__ = ["Server"]

#: how long commands have to end by themselves when their connection is gone
_GRACE_S = 2.0
#: how long a machine may take to say whether it has a user
_USER_S = 30.0


class Server(asyncssh.SSHServer):
    """Lets in whoever has the environment's key, as any user of the machine.

    :param channel: to the machine, of this connection alone: what it began ends with it.
    :param who: the machine, for messages.
    :param identity: the public key of who may come.
    """

    def __init__(self, channel: AsyncChannel, who: str, identity: asyncssh.SSHKey) -> None:
        self._channel = channel
        self._who = who
        self._identity = identity
        self._sessions: set[Session] = set()
        self._connection: asyncssh.SSHServerConnection | None = None
        self._user = ""
        #: why nobody comes in
        self._refusal = ""

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        """Take in that somebody is there."""
        self._connection = conn

    async def begin_auth(self, username: str) -> bool:
        """Look whether there is such a user; who has no key is told nothing of that."""
        self._user = username
        try:
            await execute(
                self._channel,
                ["/bin/sh", "-c", ":"],
                user=username,
                cwd="/",
                env={},
                input=None,
                timeout_s=_USER_S,
            )
        except (CarthageError, Interrupted) as error:
            self._refusal = str(error)
        return True

    def public_key_auth_supported(self) -> bool:
        """Keys are what we ask for."""
        return True

    def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        """Whether this key opens."""
        if key.public_data != self._identity.public_data:
            return False
        if self._refusal and self._connection is not None:
            self._connection.send_auth_banner(f"pytest-carthage: {self._refusal}\r\n")
        return not self._refusal

    def session_requested(self) -> Session:
        """Begin a command, a shell or a subsystem."""
        session = Session(self._channel, self._user, self._who, self._over)
        self._sessions.add(session)
        return session

    def _over(self, session: Session) -> None:
        self._sessions.discard(session)
        if self._channel.closed and self._connection is not None:
            # a client that shares this connection (ControlMaster) makes a new one, then
            self._connection.disconnect(asyncssh.DISC_BY_APPLICATION, f"{self._who} is gone")

    def connection_requested(
        self, dest_host: str, dest_port: int, orig_host: str, orig_port: int
    ) -> Awaitable[asyncssh.SSHTCPSession[bytes]]:
        """Connect from the machine's own network (``ssh -L``, ``-D``, ``-W``, ``-J``)."""
        return forward(self._channel, self._who, dest_host, dest_port)

    async def end(self) -> None:
        """Take in that the client has gone: what runs is hung up on, and ends."""
        sessions = list(self._sessions)
        for session in sessions:
            with contextlib.suppress(FabricError):
                await session.kill(signal.SIGHUP)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_GRACE_S):
                for session in sessions:
                    await session.wait()
        for session in sessions:
            session.close()
