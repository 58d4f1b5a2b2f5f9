"""Questions to a machine: commands of the host whose output is the answer."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeAlias

from pytest_carthage.channels.scripts import check, shell
from pytest_carthage.fabric import syscalls
from pytest_carthage.fabric.wire import frames
from pytest_carthage.fabric.wire.frames import Message
from pytest_carthage.fabric.wire.server import Connection, Reply

__all__ = ["Answer", "Questions", "Reach", "end_with"]

#: the command of the host that runs a command in the machine: its standard streams and its status
#: are the command's
Reach: TypeAlias = Callable[[Sequence[str]], Sequence[str]]
#: makes a reply of status, output and errors; None: it is given later
Answer: TypeAlias = Callable[[int, bytes, bytes], "Reply | None"]


class _Question:
    """A command whose end somebody waits for."""

    def __init__(
        self,
        client: tuple[Connection, int] | None,
        end: Callable[[int], None],
        given_up: Callable[[], None],
    ) -> None:
        #: connection and number of the request that it is for; None: it is to end by itself
        self.client = client
        #: is called with its status
        self.end = end
        #: is called instead, where nobody waits any more
        self.given_up = given_up
        self.is_given_up = False


class Questions:
    """Asks, and answers the clients when the commands have ended.

    What nobody waits for any more is killed: a client has gone, or has taken its request back.
    """

    def __init__(self, reach: Reach) -> None:
        self._reach = reach
        #: process id to what is asked
        self._asked: dict[int, _Question] = {}

    def popen(
        self, argv: Sequence[str], *, stdin: int, stdout: int, stderr: int
    ) -> subprocess.Popen[bytes]:
        """Start a command in the machine, in a session of its own; it ends with this process."""
        process = subprocess.Popen(
            self._reach(argv),
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
            # whoever ends a deputy kills it, and the commands of this host must not stay
            preexec_fn=partial(end_with, os.getpid()),
        )
        process.returncode = 0  # the endpoint's loop reaps: Popen must not
        return process

    def when_ended(
        self,
        pid: int,
        client: tuple[Connection, int] | None,
        end: Callable[[int], None],
        given_up: Callable[[], None],
    ) -> None:
        """Call a function when a child has ended.

        :param client: connection and number of the request that it is for; None: it goes on even
            if nobody waits for it.
        :param end: is called with its status.
        :param given_up: is called instead, if nobody waits any more.
        """
        self._asked[pid] = _Question(client, end, given_up)

    def lost(self, pid: int, error: BaseException) -> None:
        """Take in that nobody will know how a child ends."""
        question = self._asked.pop(pid, None)
        if question is None:
            return
        if question.client is not None and not question.is_given_up:
            connection, request = question.client
            connection.refuse(request, error)
        question.given_up()

    def keep(self, pid: int) -> None:
        """Let a child go on to its end, whoever has waited for it; it may have ended."""
        if (question := self._asked.get(pid)) is not None:
            question.client = None

    def ended(self, pid: int, status: int) -> None:
        """Take in that a child has ended (wait status)."""
        question = self._asked.pop(pid, None)
        if question is None:
            return
        if question.is_given_up:
            question.given_up()
        else:
            question.end(os.waitstatus_to_exitcode(status))

    def cancel(self, connection: Connection, request: int) -> None:
        """Nobody waits for a request any more."""
        self._give_up(lambda client: client == (connection, request))

    def hang_up(self, connection: Connection) -> None:
        """A client is gone."""
        self._give_up(lambda client: client[0] is connection)

    def _give_up(self, is_of: Callable[[tuple[Connection, int]], bool]) -> None:
        for pid, question in self._asked.items():
            is_wanted = question.client is None or not is_of(question.client)
            if not (is_wanted or question.is_given_up):
                question.is_given_up = True
                self.kill(pid)

    def kill(self, pid: int) -> None:
        """Kill a command of :meth:`popen`, with all that it has started in its group."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)

    def ask(
        self,
        connection: Connection,
        message: Message,
        answer: Answer,
        script: str,
        *words: str,
        stdin: int | None = None,
        given_up: Callable[[], None] = lambda: None,
        is_kept: bool = False,
    ) -> None:
        """Run a script in the machine; what ``answer`` makes of it is the reply.

        :param given_up: is called instead, if nobody waits for it any more.
        :param is_kept: it goes on even then.
        """
        request: int = message["id"]
        out = os.memfd_create("out", os.MFD_CLOEXEC)
        err = os.memfd_create("err", os.MFD_CLOEXEC)
        null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)

        def ended(status: int) -> None:
            try:
                reply = answer(status, content(out), content(err))
            except (OSError, LookupError, ValueError) as error:
                connection.refuse(request, error)
            except Exception as error:  # whatever the machine said: who asked is told
                connection.refuse(request, f"{type(error).__name__}: {error}")
            else:
                if reply is not None:
                    connection.answer(request, reply)
            finally:
                frames.close_all((out, err))

        def unheard() -> None:
            frames.close_all((out, err))
            given_up()

        try:
            process = self.popen(
                shell(script, *words),
                stdin=null if stdin is None else stdin,
                stdout=out,
                stderr=err,
            )
        except BaseException:
            frames.close_all((out, err))
            raise
        finally:
            os.close(null)
        client = None if is_kept else (connection, request)
        self.when_ended(process.pid, client, ended, unheard)

    def order(self, connection: Connection, message: Message, script: str, *words: str) -> None:
        """Run a script that answers nothing; its first word is what it is about."""

        def done(status: int, out: bytes, err: bytes) -> Reply:
            check(status, err, words[0] if words else "")
            return Reply()

        self.ask(connection, message, done, script, *words)


def end_with(parent: int) -> None:
    """Have the kernel kill this process when its parent ends, and end if it has ended already."""
    syscalls.die_with_parent(signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def content(fd: int) -> bytes:
    """All that was written to a file of this process's own."""
    return os.pread(fd, os.fstat(fd).st_size, 0)
