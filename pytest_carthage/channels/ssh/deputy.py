"""The deputy of a host that is reached by ssh."""

from __future__ import annotations

import fcntl
import os
import struct
import termios
import tty
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pytest_carthage import clock
from pytest_carthage.channels import scripts
from pytest_carthage.channels.deputy import Deputy, deputy_command
from pytest_carthage.channels.far.deputy import FarDeputy
from pytest_carthage.channels.ssh import lease
from pytest_carthage.channels.ssh.agent import AgentLine
from pytest_carthage.channels.ssh.becoming import becoming, refusal_of
from pytest_carthage.channels.ssh.commands import ChannelJobs, Commands
from pytest_carthage.channels.ssh.line import Line
from pytest_carthage.channels.ssh.relays import LineRelays
from pytest_carthage.channels.ssh.tenancy import Tenancy
from pytest_carthage.channels.ssh.way import Secrets, Way
from pytest_carthage.errors import FabricError
from pytest_carthage.fabric.wire.server import Connection, Handler, Reply, Server

if TYPE_CHECKING:
    import socket

    from pytest_carthage.fabric.wire.frames import Message

__all__ = ["SshDeputy", "deputy_by_ssh"]

#: what the host is, and who commands are run by there
PROBE = """\
. /etc/os-release 2> /dev/null
echo "$(id -un)"; echo "${PRETTY_NAME:-unknown}"; uname -srm
modern='import sys, resource; assert sys.version_info >= (3, 6)'
python3 -c "$modern" 2> /dev/null && command -v python3 || echo
"""
#: the longest that an agent may take to come; then commands are carried without one
_AGENT_S = 20.0


class SshDeputy(Deputy):
    """Carries commands, files and connections over one connection that is kept.

    Where the host has Python, an agent of ours does that there, which came over a channel. Else
    each thing is a channel of its own, and the host needs no more than a POSIX shell with
    coreutils. Nothing is written there.
    """

    def __init__(
        self, way: Way, *, env: Mapping[str, str] | None = None, shown: str | None = None
    ) -> None:
        server = Server()
        self._shown = shown
        self._way = way
        self._own_env = dict(env or {})
        self._line = Line(way, server)
        self._commands = Commands(
            self._line,
            becoming=lambda: becoming(way, self._line.secrets),
            on_end=self._far_ended,
        )
        super().__init__(self._commands, env=env, server=server, jobs=ChannelJobs(self._commands))
        self.on_other_child = lambda pid, status: None  # commands that lead to the host
        #: what is told of the host once somebody has come in
        self._facts: dict[str, Any] = {}
        self._tenancy = Tenancy(
            self._line,
            server,
            becoming=lambda: becoming(way, self._line.secrets),
            lost=self._lose,
        )
        #: who carries, once an agent has come; None: there is none
        self._far: FarDeputy | None = None
        #: why the host is not to be used any more; None: it is
        self._lost: FabricError | None = None
        relays = LineRelays(self._commands, server, self._line)
        self.offer(
            {
                "enter": self._enter,
                "lease": self._take,
                "resume": self._resume,
                "facts": self._tell,
                **relays.handlers,
            }
        )

    def greeting(self) -> Reply:
        """What there is to be asked for, and by which way it goes."""
        way = self._shown or ("ssh" if self._far is None else "agent")
        return Reply(operations=sorted(self.server.handlers), way=way)

    def _far_ended(self, number: int, status: int | None, error: BaseException | None) -> None:
        if status is None:
            error = error or self._line.lost()
            if not self.jobs.lost(number, error):
                self._commands.lost(number, error)
        elif not self.jobs.ended(number, status):
            self._commands.ended(number, status)

    # coming in

    def _enter(self, connection: Connection, message: Message, fds: list[int]) -> None:
        """Connect with what is answered to passwords, and tell what the host is."""
        self._line.secrets = Secrets(**message["secrets"])

        def connected(result: Any, error: BaseException | None) -> None:
            if error is not None:
                connection.refuse(message["id"], error)
                return
            self._commands.ask(connection, message, told, PROBE)

        def told(status: int, out: bytes, err: bytes) -> Reply | None:
            words = out.decode(errors="replace").split("\n")
            if status or len(words) < 4:
                said = scripts.last_line(err)
                if self._way.become is not None:
                    raise refusal_of(self._way, self._line.secrets, said)
                raise FabricError(
                    f"ssh {self._way}: a shell there ends with status {status}: "
                    f"{said or 'it says nothing'}; try: ssh {self._way} true"
                )
            self.user, system, kernel, python = words[:4]
            self._users.add(self.user)
            self._facts = {
                "user": self.user,
                "system": system,
                "kernel": kernel,
                "python": python or None,
                "began_s": clock.unix_s(),
            }
            if not python:
                return Reply(**self._facts)
            self._begin_agent(python, lambda: connection.answer(message["id"], self._told()))
            return None

        self._line.begin(self._line.connection(), connected)

    def _told(self) -> Reply:
        return Reply(**self._facts)

    def _begin_agent(self, python: str, then: Callable[[], None]) -> None:
        """Have an agent carry, once it has come; without it goes on what is there."""
        before = self.server.handlers
        line = AgentLine(
            self._line, python, becoming=lambda: becoming(self._way, self._line.secrets)
        )
        far = FarDeputy(line, env=self._own_env, server=self.server)
        self.server.on_child = lambda pid, status: None  # commands that lead to the host
        offered, self.server.handlers = self.server.handlers, before
        is_over = False

        def answered(reply: object) -> None:
            nonlocal is_over
            if is_over:
                return
            is_over = True
            if isinstance(reply, Exception):
                far.link.end()
            else:
                self._far = far
                far.link.on_lost = self._lost_agent
                self.offer(
                    {
                        op: self._guarded(far, handler)
                        for op, handler in offered.items()
                        if before.get(op) is not handler
                    }
                )
                self.offer({"cancel": self._cancel})
            then()

        far.link.start()
        far.link.ask("ping", answered)
        self.server.later(_AGENT_S, lambda: answered(TimeoutError()))

    def _guarded(self, far: FarDeputy, handler: Handler) -> Handler:
        """What refuses at once while nobody is there to carry it."""

        def handle(connection: Connection, message: Message, fds: list[int]) -> Any:
            if far.link.facts is None:
                raise self._line.lost()
            return handler(connection, message, fds)

        return handle

    def _lost_agent(self, why: str) -> None:
        """It is gone, with all that it carried; another one is reached for."""
        assert self._far is not None
        self._far.jobs.lose_all(self._line.lost(FabricError(why) if why else None))

    def _cancel(self, connection: Connection, message: Message, fds: list[int]) -> None:
        super()._cancel(connection, message, fds)
        if self._far is not None:
            self._far.cancel(connection, message, fds)

    def _hang_up(self, connection: Connection) -> None:
        super()._hang_up(connection)
        if self._far is not None:
            self._far.hang_up(connection)

    def _tell(self, connection: Connection, message: Message, fds: list[int]) -> Reply:
        """What the host is, for who has not come in himself."""
        return Reply(**self._facts)

    # the lease

    def _take(self, connection: Connection, message: Message, fds: list[int]) -> None:
        """Lay down a lease, and renew it from then on; ``held`` tells of what lies there."""
        identity, seconds = message["identity"], float(message["lease_s"])
        record = self._record(message)

        def done(status: int, out: bytes, err: bytes) -> Reply:
            if status:
                raise FabricError(
                    f"ssh {self._way}: its lease cannot be laid down there: "
                    f"{scripts.last_line(err)}; try: df /run/lock /tmp, on the host"
                )
            held = lease.state_of(out.decode(errors="replace"))
            if held is not None:
                return Reply(held=held.text, left_s=held.left_s, is_dead=held.is_dead)
            boot = lease.boot_of(out.decode())
            self._tenancy.begin(identity, record, seconds, boot)
            return Reply(held=None, boot=boot)

        self._commands.ask(
            *(connection, message, done, lease.TAKE, record),
            f"{seconds:.0f}",
            message.get("instead_of") or "",
        )

    def _resume(self, connection: Connection, message: Message, fds: list[int]) -> None:
        """Go on with a lease that another deputy of this run has laid down, which is gone."""
        identity, seconds = message["identity"], float(message["lease_s"])
        self._facts["began_s"] = message["began_s"]
        self._tenancy.begin(identity, self._record(message), seconds, message["boot"])

        def renewed(error: BaseException | None) -> None:
            if error is not None:
                connection.refuse(message["id"], error)
            else:
                connection.answer(message["id"], Reply())

        self._tenancy.renew(renewed)

    def _record(self, message: Message) -> str:
        """What a lease says; it is held by the supervisor, who gives the host back in any case."""
        return lease.record(message["identity"], message["owner"], pid=os.getppid())

    def _lose(self, why: FabricError) -> None:
        """Nothing more is done there."""
        self._lost = why
        self.server.handlers = dict.fromkeys(self.server.handlers, self._refuse)

    def _refuse(self, connection: Connection, message: Message, fds: list[int]) -> Reply:
        assert self._lost is not None
        raise self._lost

    # terminals

    def _run(self, connection: Connection, message: Message, fds: list[int]) -> Reply | None:
        if not message.get("tty"):
            return super()._run(connection, message, fds)
        env = {**self._env, **(message.get("env") or {})}
        words = [
            message.get("user") or self.user,
            message.get("cwd") or "",
            *(f"{name}={value}" for name, value in env.items()),
            *message["argv"],
        ]
        kind = env.get("TERM", "xterm-256color")
        rows, columns = message.get("rows", 24), message.get("cols", 80)
        ours, theirs = _terminal(rows, columns)
        try:
            started = self._commands.popen(
                scripts.shell(scripts.RUN, *words),
                stdin=ours,
                stdout=ours,
                stderr=ours,
                terminal=(kind, columns, rows),
            )
        except BaseException:
            os.close(theirs)
            raise
        finally:
            os.close(ours)
        job = self.jobs.register_child(started.pid, connection, message)
        return Reply((theirs,), job=job, pid=started.pid)


def _terminal(rows: int, columns: int) -> tuple[int, int]:
    """Both ends of a terminal here that changes nothing: the one of the host's does all."""
    master, slave = os.openpty()
    size = struct.pack("HHHH", rows, columns, 0, 0)
    fcntl.ioctl(slave, termios.TIOCSWINSZ, size)
    tty.setraw(slave)
    return slave, master


def deputy_by_ssh(
    way: Way, *, env: Mapping[str, str] | None = None, shown: str | None = None
) -> Sequence[str]:
    """The command of a deputy for a host; nothing secret is in it.

    :param shown: by what people are told that it goes; by default by whether an agent is there.
    """
    return deputy_command(f"{__name__}:_serve", way.as_record(), dict(env or {}), shown)


def _serve(
    control: socket.socket, way: Mapping[str, Any], env: Mapping[str, str], shown: str | None
) -> None:
    reached = Way.from_record(way)
    os.environ.clear()
    os.environ.update(reached.surroundings)
    SshDeputy(reached, env=env, shown=shown).serve(control)
