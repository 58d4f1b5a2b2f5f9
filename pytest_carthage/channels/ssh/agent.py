"""An agent on a host that is reached by ssh: it comes over a channel, and is written nowhere."""

from __future__ import annotations

import os
import shlex
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pytest_carthage.channels.far.program import BOOTSTRAP, agent_sent
from pytest_carthage.channels.scripts import last_line
from pytest_carthage.channels.ssh.becoming import Becoming
from pytest_carthage.channels.ssh.session import Session

if TYPE_CHECKING:
    from pytest_carthage.channels.ssh.line import Line

__all__ = ["AgentLine"]


class AgentLine:
    """A Python of the host's, which becomes the agent; see :class:`.far.link.Line`.

    :param python: path of it there.
    :param becoming: gives what makes another user of a command there.
    """

    is_shared = False

    def __init__(
        self,
        line: Line,
        python: str,
        *,
        becoming: Callable[[], Becoming],
    ) -> None:
        self._line = line
        self._python = python
        self._becoming = becoming
        self._why = ""

    def open(self) -> socket.socket:
        """Have one started; what is said to it meanwhile waits."""
        ours, theirs = socket.socketpair()
        for sock in (ours, theirs):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        said = os.memfd_create("said", os.MFD_CLOEXEC)
        becoming = self._becoming()
        session: list[Session] = []

        async def serve() -> None:
            connection = await self._line.connection()
            session.append(
                Session(
                    *(os.dup(theirs.fileno()), os.dup(theirs.fileno()), os.dup(said)),
                    becoming=becoming,
                    first=agent_sent(),
                    is_own=True,
                )
            )
            words = [*becoming.words, self._python, "-I", "-S", "-c", BOOTSTRAP]
            await session[0].begin(connection, shlex.join(words))
            await session[0].ended()

        def over(result: Any, error: BaseException | None) -> None:
            """It has ended, or was never there: who speaks to it sees the end."""
            self._why = str(error) if error is not None else last_line(os.pread(said, 1 << 16, 0))
            os.close(said)
            for each in session:
                self._line.soon(each.close)
            theirs.close()

        self._line.begin(serve(), over)
        return ours

    def why(self) -> str:
        """What it has said last, or why there is no connection."""
        return self._why
