"""The deputy of a machine that is far away, with an agent of ours at the other end of a stream."""

from __future__ import annotations

import fcntl
import os
import shlex
import socket
import stat
import struct
import termios
import tty
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from pytest_carthage.channels.deputy import deputy_command
from pytest_carthage.channels.far.carried import Inlet, Outlet, opened_anew
from pytest_carthage.channels.far.files import FarFiles
from pytest_carthage.channels.far.lines import CommandLine, SocketLine
from pytest_carthage.channels.far.link import FarError, Line, Link
from pytest_carthage.channels.far.network import FarNetwork
from pytest_carthage.channels.far.program import BOOTSTRAP
from pytest_carthage.channels.far.window import Window
from pytest_carthage.fabric.endpoint import Endpoint
from pytest_carthage.fabric.jobs import Job, Jobs
from pytest_carthage.fabric.named_files import FILE_WORK
from pytest_carthage.fabric.wire import frames
from pytest_carthage.fabric.wire.frames import Message
from pytest_carthage.fabric.wire.server import Connection, Reply, Server

__all__ = ["FarDeputy", "deputy_by_stream"]

#: how often it is looked whether a client has given its terminal another size, which nobody tells
_SIZE_S = 0.2
_NULL = os.makedev(1, 3)


class FarDeputy(Endpoint):
    """Carries commands, files and connections by an agent far away.

    What nobody waits for any more is ended there. Should the agent go, and another one come, all
    clients are hung up, as by an agent that has ended; who comes then talks to the new one.

    :param line: the way to it.
    :param env: variables of every command.
    :param way: what carries, as it is shown to people.
    :param server: of an endpoint that this one serves a part of.
    :param window: path of the image of a disk that the machine has, see :mod:`.window`.
    """

    def __init__(
        self,
        line: Line,
        *,
        env: Mapping[str, str],
        way: str = "agent",
        server: Server | None = None,
        window: str | None = None,
    ) -> None:
        server = server or Server()
        self.link = Link(server, line, Window(window))
        super().__init__(server, _FarJobs(self.link, self._forget))
        self._env = dict(env)
        self._way = way
        self.link.on_news = self._news
        self.link.on_lost = self._lost
        #: (connection, request) to the agent's number of it, while it is under way
        self._under_way: dict[tuple[Connection, int], _UnderWay] = {}
        #: the agent's number of a command to it
        self._commands: dict[int, _Command] = {}
        plain = (*FILE_WORK, "ping", "renew", "sleep", "become")
        self._network = FarNetwork(self)
        self.offer(
            {
                "run": self._run,
                **self.jobs.handlers,
                "cancel": self._cancel,
                **{op: partial(self._pass_on, op) for op in plain},
                **FarFiles(self).handlers,
                **self._network.handlers,
                "holders": self._holders,
            }
        )

    def greeting(self) -> Reply:
        """What there is to be asked for, and by which way it is carried."""
        return Reply(**super().greeting().fields, way=self._way)

    def serve(
        self,
        control: socket.socket,
        on_message: Callable[[Message], None] = lambda message: None,
    ) -> None:
        """Reach for the agent, and serve until ``control`` closes."""
        self.link.start()
        super().serve(control, on_message)

    # requests

    def ask(
        self,
        connection: Connection,
        message: Message,
        op: str,
        answer: Callable[[Message], Reply | None],
        given_up: Callable[[], None] = lambda: None,
        *,
        refused: Callable[[FarError], Reply | None] | None = None,
        is_kept: bool = False,
        **fields: Any,
    ) -> int:
        """Ask the agent, and have the client be answered.

        :param answer: makes a reply of the agent's; None: it is given later.
        :param given_up: is called if it was refused, or nobody waits for it any more.
        :param refused: makes a reply of a refusal.
        :param is_kept: it goes on even if nobody waits for it any more.
        """
        key = connection, message["id"]

        def done(reply: Message | FarError) -> None:
            self._under_way.pop(key, None)
            try:
                if isinstance(reply, FarError):
                    given_up()
                    if refused is None:
                        raise reply
                    made = refused(reply)
                else:
                    made = answer(reply)
            except (OSError, LookupError, ValueError) as error:
                connection.refuse(message["id"], error)
            except Exception as error:  # whatever the agent said: who asked is told
                connection.refuse(message["id"], f"{type(error).__name__}: {error}")
            else:
                if made is not None:
                    connection.answer(message["id"], made)

        number = self.link.ask(op, done, **fields)
        if not is_kept:
            self.under_way(connection, message, lambda: self.link.take_back(number), given_up)
        return number

    def under_way(
        self,
        connection: Connection,
        message: Message,
        take_back: Callable[[], None],
        given_up: Callable[[], None] = lambda: None,
    ) -> None:
        """Something is done for a request, until it is answered or nobody waits for it."""
        self._under_way[connection, message["id"]] = _UnderWay(take_back, given_up)

    def finished(self, connection: Connection, message: Message) -> None:
        """It is done."""
        self._under_way.pop((connection, message["id"]), None)

    def _pass_on(self, op: str, connection: Connection, message: Message, fds: list[int]) -> None:
        fields = {name: value for name, value in message.items() if name not in ("id", "op")}
        self.ask(connection, message, op, _as_it_is, **fields)

    def _cancel(self, connection: Connection, message: Message, fds: list[int]) -> None:
        """Nobody waits for a request any more: what it began ends."""
        self._give_up((connection, message["request"]))
        self.jobs.handlers["cancel"](connection, message, fds)

    def cancel(self, connection: Connection, message: Message, fds: list[int]) -> None:
        """The same, of an endpoint that this one serves a part of."""
        self._cancel(connection, message, fds)

    def hang_up(self, connection: Connection) -> None:
        """A client of that is gone."""
        self._hang_up(connection)

    def _give_up(self, key: tuple[Connection, int]) -> None:
        work = self._under_way.pop(key, None)
        if work is not None:
            work.take_back()
            work.given_up()

    # clients

    def _hang_up(self, connection: Connection) -> None:
        for key in [key for key in self._under_way if key[0] is connection]:
            self._give_up(key)
        super()._hang_up(connection)

    def _lost(self, why: str) -> None:
        """The agent is gone, with all that was begun: so are its clients."""
        self._commands.clear()
        self._network.lost()
        for connection in list(self.connections):
            self.server.soon(partial(self.server.drop, connection))

    # commands

    def _run(self, connection: Connection, message: Message, fds: list[int]) -> None:
        command = _Command()
        on_terminal: tuple[int, ...] = ()
        try:
            if message.get("tty"):
                on_terminal = self._open_terminal(command, message)
                streams = [command.ins[0].stream, command.outs[0].stream]
            else:
                if len(fds) != 3:
                    raise ValueError(f"run takes 3 descriptors, got {len(fds)}")
                streams = self._open_streams(command, fds)
        except BaseException:
            command.close()
            raise
        fields: dict[str, Any] = {
            name: message[name]
            for name in ("argv", "user", "group", "cwd", "tty", "rows", "cols")
            if message.get(name) is not None
        }
        env = {**self._env, **(message.get("env") or {})}

        def begun(reply: Message) -> Reply:
            self._commands[number] = command
            job = self.jobs.register_child(number, connection, message)
            return Reply(on_terminal, job=job, pid=int(reply["pid"]))

        def given_up() -> None:
            frames.close_all(on_terminal)
            command.close()

        number = self.ask(
            connection, message, "run", begun, given_up, streams=streams, env=env, **fields
        )

    def _open_streams(self, command: _Command, fds: Sequence[int]) -> list[int]:
        streams = []
        places: dict[tuple[int, int], int] = {}
        for place, fd in enumerate(fds):
            info = os.fstat(fd)
            same = info.st_dev, info.st_ino
            if stat.S_ISCHR(info.st_mode) and info.st_rdev == _NULL:
                streams.append(0)
            elif place == 2 and same in places:  # of one pipe: the order in it counts
                streams.append(places[same])
            else:
                stream = self.link.new_stream()
                own, _ = opened_anew(fd)
                if place == 0:
                    command.ins.append(Inlet(self.link, self.server, stream, own))
                else:
                    command.outs.append(Outlet(self.link, self.server, stream, own))
                    places[same] = stream
                streams.append(stream)
        return streams

    def _open_terminal(self, command: _Command, message: Message) -> tuple[int, ...]:
        """A terminal for the client, which passes all on as it is; that in the machine acts."""
        master, slave = os.openpty()
        tty.setraw(slave)
        size = struct.pack("HHHH", message.get("rows", 24), message.get("cols", 80), 0, 0)
        fcntl.ioctl(slave, termios.TIOCSWINSZ, size)
        own, _ = opened_anew(slave)
        os.close(slave)
        link, server = self.link, self.server
        back = Outlet(link, server, link.new_stream(), own, command.close)
        command.outs.append(back)
        inlet = Inlet(link, server, link.new_stream(), os.dup(own), command.close, back)
        command.ins.append(inlet)
        self._watch_size(inlet, command.outs[0].stream, size)
        return (master,)

    def _watch_size(self, inlet: Inlet, stream: int, size: bytes) -> None:
        if inlet.fd < 0:
            return
        now = fcntl.ioctl(inlet.fd, termios.TIOCGWINSZ, bytes(8))
        if now != size:
            rows, cols, _, _ = struct.unpack("HHHH", now)
            self.link.tell("resize", stream=stream, rows=rows, cols=cols)
        self.server.later(_SIZE_S, partial(self._watch_size, inlet, stream, now))

    def _forget(self, number: int) -> None:
        """A command is ended, since nobody waits for it any more."""
        command = self._commands.pop(number, None)
        if command is not None:
            command.close()

    def _news(self, message: Message) -> None:
        """A command has ended, or somebody has connected.

        The end is told when all that it has printed is where it belongs.
        """
        if "accepted" in message:
            self._network.accepted(message)
            return
        number, status = int(message["ended"]), int(message["status"])
        command = self._commands.pop(number, None)
        if command is None:
            return
        left = [1 + len(command.outs)]

        def flushed() -> None:
            left[0] -= 1
            if not left[0]:
                self.jobs.ended(number, status)

        for outlet in command.outs:
            outlet.when_flushed(flushed)
        flushed()

    def _holders(self, connection: Connection, message: Message, fds: list[int]) -> Reply | None:
        inodes = set(message["inodes"])
        streams = [
            carried.stream
            for carried in self.link.carried.values()
            if isinstance(carried, Outlet) and carried.inode in inodes
        ]
        if not streams:
            return Reply(holders=[])
        self.ask(connection, message, "holders", _as_it_is, streams=streams)
        return None


class _FarJobs(Jobs):
    """Commands by the agent's numbers of them."""

    def __init__(self, link: Link, forget: Callable[[int], None]) -> None:
        super().__init__()
        self._link = link
        self._forget_command = forget

    def end(self, job: Job) -> None:
        """End a command there, with all that it has started."""
        self._link.tell("end", job=job.pid)
        self._forget_command(job.pid)

    def signal(self, job: Job, number: int) -> None:
        """Signal a command there, and its group."""
        self._link.tell("kill", job=job.pid, signal=number)


class _UnderWay:
    """What is done for a request."""

    def __init__(self, take_back: Callable[[], None], given_up: Callable[[], None]) -> None:
        self.take_back = take_back
        self.given_up = given_up


class _Command:
    """What a command's client has open."""

    def __init__(self) -> None:
        self.ins: list[Inlet] = []
        self.outs: list[Outlet] = []

    def close(self) -> None:
        """Nobody is at the other end any more."""
        for end in (*self.ins, *self.outs):
            end.close()


def _as_it_is(reply: Message) -> Reply:
    return Reply(**{name: value for name, value in reply.items() if name not in ("id", "ok")})


def deputy_by_stream(
    *,
    unix: str | os.PathLike[str] | None = None,
    window: str | os.PathLike[str] | None = None,
    command: Sequence[str] | None = None,
    is_quoted: bool = False,
    env: Mapping[str, str] | None = None,
    way: str = "agent",
) -> list[str]:
    """The command of a :class:`FarDeputy`.

    :param unix: path of a socket that leads to the agent, as QEMU makes one for a port.
    :param window: path of the image of a disk that the machine has, at whose end there is a window
        (:func:`.window.add_window`), through which files go to it several times as fast.
    :param command: or a prefix, behind which a Python 3.6 or newer is started that becomes the
        agent, as in ``["ssh", "host"]``; nothing is written there.
    :param is_quoted: the prefix takes a command as one text for a shell, as ssh(1) does.
    :param env: variables of every command, as in ``planned.env``.
    """
    if (unix is None) == (command is None):
        raise ValueError("deputy_by_stream takes unix= or command=, one of them")
    if command is not None:
        python = ["python3", "-I", "-S", "-c", BOOTSTRAP]
        command = [*command, shlex.join(python)] if is_quoted else [*command, *python]
    paths = [None if path is None else os.fspath(path) for path in (unix, window)]
    return deputy_command(f"{__name__}:_serve", *paths, command, dict(env or {}), way)


def _serve(
    control: socket.socket,
    path: str | None,
    window: str | None,
    command: Sequence[str] | None,
    env: Mapping[str, str],
    way: str,
) -> None:
    line: Line = CommandLine(command or ()) if path is None else SocketLine(path)
    FarDeputy(line, env=env, way=way, window=window).serve(control)
