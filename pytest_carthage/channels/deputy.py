"""A deputy: a process of the environment that answers for a machine which is none of this kernel.

:attr:`pytest_carthage.provider.Context.deputy` starts it outside of the fabric; it ends with the
fabric. This one carries everything by a command of the host, as ``ssh``, ``nsenter`` or a container
engine's ``exec``.
"""

from __future__ import annotations

import json
import os
import shlex
import socket
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

from pytest_carthage.channels import scripts
from pytest_carthage.channels.copies import Copies
from pytest_carthage.channels.questions import Questions
from pytest_carthage.channels.relays import Relays
from pytest_carthage.fabric.endpoint import Endpoint
from pytest_carthage.fabric.jobs import Jobs
from pytest_carthage.fabric.wire import frames
from pytest_carthage.fabric.wire.frames import Message
from pytest_carthage.fabric.wire.server import Connection, Reply, Server

__all__ = ["CONTROL", "Deputy", "become", "deputy_by_command", "deputy_command"]

#: variable of a deputy's environment: the number of the descriptor that brings its clients
CONTROL = "CARTHAGE_CONTROL"
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Deputy(Endpoint):
    """Carries commands, files and connections by a command of the host.

    The machine needs no more than a POSIX shell with coreutils, and Python for connections.

    :param questions: runs commands in the machine.
    :param env: variables of every command.
    """

    def __init__(
        self,
        questions: Questions,
        *,
        env: Mapping[str, str] | None = None,
        server: Server | None = None,
        jobs: Jobs | None = None,
    ) -> None:
        super().__init__(server, jobs)
        self._env = {"PATH": _PATH, "LANG": "C.UTF-8", **(env or {})}
        #: who commands are run by, unless another user is asked for
        self.user = "root"
        self._users = {"root"}
        self._questions = questions
        self.on_other_child = questions.ended
        self.offer(
            {
                "run": self._run,
                **self.jobs.handlers,
                "cancel": self._cancel,
                **Copies(self._questions).handlers,
                **Relays(self._questions, self.server).handlers,
                "ping": lambda c, m, f: self._questions.order(c, m, "exec true"),
            }
        )

    def greeting(self) -> Reply:
        """What there is to be asked for, and by which way it goes."""
        return Reply(**super().greeting().fields, way="command")

    def _run(self, connection: Connection, message: Message, fds: list[int]) -> Reply | None:
        if message.get("tty"):
            raise ValueError(
                "this machine gives no terminal, since its deputy carries commands by pipes; "
                "try: the command without one, as in pytest-carthage exec MACHINE -- COMMAND"
            )
        if len(fds) != 3:
            raise ValueError(f"run takes 3 descriptors, got {len(fds)}")
        user = message.get("user") or self.user
        if user in self._users:
            return self._start(connection, message, fds)
        own = [os.dup(fd) for fd in fds]  # those of the request are closed before it is answered

        def looked_up(status: int, out: bytes, err: bytes) -> Reply:
            try:
                if status:
                    raise LookupError(f"no user {user!r} in this machine")
                self._users.add(user)
                return self._start(connection, message, own)
            finally:
                frames.close_all(own)

        def given_up() -> None:
            frames.close_all(own)

        try:
            self._questions.ask(
                connection, message, looked_up, scripts.USER, user, given_up=given_up
            )
        except BaseException:
            frames.close_all(own)
            raise
        return None

    def _cancel(self, connection: Connection, message: Message, fds: list[int]) -> None:
        """Nobody waits for a request any more: what it began ends, and what it asked for, too."""
        self._questions.cancel(connection, message["request"])
        self.jobs.handlers["cancel"](connection, message, fds)

    def _hang_up(self, connection: Connection) -> None:
        self._questions.hang_up(connection)
        super()._hang_up(connection)

    def _start(self, connection: Connection, message: Message, fds: Sequence[int]) -> Reply:
        env = {**self._env, **(message.get("env") or {})}
        words = [
            message.get("user") or self.user,
            message.get("cwd") or "",
            *(f"{name}={value}" for name, value in env.items()),
            *message["argv"],
        ]
        stdin, stdout, stderr = fds
        process = self._questions.popen(
            scripts.shell(scripts.RUN, *words), stdin=stdin, stdout=stdout, stderr=stderr
        )
        return Reply(job=self.jobs.register(process, connection, message), pid=process.pid)


def deputy_command(factory: str, *arguments: object) -> list[str]:
    """The command of a deputy that is a Python function, found as in this process.

    :param factory: ``"package.module:function"``, which is called with the control socket and
        the arguments, and serves.
    :param arguments: what JSON can tell.
    """
    code = (
        "import json, sys; sys.path[:], factory, arguments = json.loads(sys.argv[1])\n"
        "from pytest_carthage.channels.deputy import become; become(factory, arguments)"
    )
    found_at = [os.path.abspath(path) for path in sys.path]  # noqa: PTH100  '' is this folder
    settings = json.dumps([found_at, factory, arguments])
    return [sys.executable, "-I", "-c", code, settings]


def become(factory: str, arguments: Sequence[Any]) -> None:
    """Entry of :func:`deputy_command`."""
    control = socket.socket(fileno=int(os.environ.pop(CONTROL)))
    os.set_inheritable(control.fileno(), False)
    module, _, name = factory.partition(":")
    getattr(import_module(module), name)(control, *arguments)


def deputy_by_command(
    prefix: Sequence[str], *, is_quoted: bool = False, env: Mapping[str, str] | None = None
) -> list[str]:
    """The command of a :class:`Deputy` whose machine is reached behind a prefix.

    :param prefix: as in ``["nsenter", "--target", "4711", "--all", "--"]``.
    :param is_quoted: the prefix takes a command as one text for a shell, as ssh(1) does.
    :param env: variables of every command, as in ``planned.env``.
    """
    return deputy_command(f"{__name__}:_serve", list(prefix), is_quoted, dict(env or {}))


def _serve(
    control: socket.socket, prefix: Sequence[str], is_quoted: bool, env: Mapping[str, str]
) -> None:
    def reach(argv: Sequence[str]) -> Sequence[str]:
        return [*prefix, shlex.join(argv)] if is_quoted else [*prefix, *argv]

    Deputy(Questions(reach), env=env).serve(control)
