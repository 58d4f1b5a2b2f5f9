"""The agent: runs commands and opens files and sockets *inside* a machine, for whoever asks.

It has entered all of the machine's namespaces, is within its cgroup and capabilities, and was
loaded before that: nothing of it is read from the machine's file system.
"""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import socket
import struct
import subprocess
import termios
from typing import TYPE_CHECKING, Any

from pytest_carthage.fabric import accounts, observe, wire
from pytest_carthage.fabric.server import Connection, Reply, Server

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class _Job:
    """One command that was started, until somebody fetched its status."""

    def __init__(self, pid: int, owner: Connection) -> None:
        self.pid = pid
        self.owner = owner
        self.status: int | None = None
        #: (connection, request) to answer when it ends
        self.waiting: list[tuple[Connection, int]] = []


class Agent:
    """Serves the operations that :mod:`pytest_carthage.fabric.wire` lists for agents."""

    def __init__(self, *, env: Mapping[str, str], user: str = "root") -> None:
        self._env = dict(env)
        self._user = user
        self._jobs: dict[int, _Job] = {}
        self._by_pid: dict[int, _Job] = {}
        self._last_job = 0
        #: called with (pid, status) of children that are not jobs
        self.on_other_child: Callable[[int, int], None] = lambda pid, status: None
        self.server = Server()
        self.server.on_child = self._ended
        self.server.handlers = {
            "run": self._run,
            "wait": self._wait,
            "kill": self._kill,
            "open": self._open,
            "stat": self._stat,
            "listdir": lambda c, m, f: Reply(names=sorted(os.listdir(m["path"]))),
            "mkdirs": self._mkdirs,
            "symlink": self._symlink,
            "chmod": self._chmod,
            "chown": self._chown,
            "socket": self._socket,
            "lookup": lambda c, m, f: Reply(address=_address_of(m["host"])),
            "listening": lambda c, m, f: Reply(listening=observe.listening()),
            "observe": lambda c, m, f: Reply(**observe.everything()),
            "ping": lambda c, m, f: Reply(),
        }

    def serve(self, control: socket.socket, on_message: Callable[[wire.Message], None]) -> None:
        """Serve for ever; ``control`` brings clients (a descriptor each) from the fabric."""

        def readable() -> None:
            try:
                message, fds = wire.receive(control)
            except (OSError, ValueError):
                os._exit(0)
            for fd in fds:
                connection = self.server.adopt(socket.socket(fileno=fd))
                connection.answer(message["id"], Reply())
                connection.on_close.append(lambda c=connection: self._hang_up(c))  # type: ignore[misc]
            if not fds:
                on_message(message)

        self.server.watch(control.fileno(), readable)
        self.server.run()

    # commands

    def _run(self, connection: Connection, message: wire.Message, fds: list[int]) -> Reply:
        account = accounts.find(message.get("user") or self._user, message.get("group"))
        env = {
            "PATH": _PATH,
            "HOME": account.home,
            "USER": account.name,
            "LOGNAME": account.name,
            "SHELL": account.shell,
            "LANG": "C.UTF-8",
        }
        env |= self._env | (message.get("env") or {})
        identity: dict[str, Any] = {}
        if (account.uid, account.gid) != (os.getuid(), os.getgid()):
            identity = {
                "user": account.uid,
                "group": account.gid,
                "extra_groups": list(account.groups),
            }
        cwd = message.get("cwd") or self._folder(account)
        if not os.path.isdir(cwd):  # else the command would be blamed
            raise ValueError(f"no folder {cwd!r} to run a command in")
        argv = message["argv"]
        if message.get("tty"):
            env.setdefault("TERM", "xterm-256color")
            return self._run_on_terminal(connection, message, argv, env, cwd, identity)
        if len(fds) != 3:
            raise ValueError(f"run takes 3 descriptors, got {len(fds)}")
        process = subprocess.Popen(
            argv,
            stdin=fds[0],
            stdout=fds[1],
            stderr=fds[2],
            cwd=cwd,
            env=env,
            start_new_session=True,
            **identity,
        )
        return Reply(job=self._register(process, connection), pid=process.pid)

    def _folder(self, account: accounts.Account) -> str:
        return account.home if os.path.isdir(account.home) else "/"

    def _run_on_terminal(
        self,
        connection: Connection,
        message: wire.Message,
        argv: list[str],
        env: dict[str, str],
        cwd: str,
        identity: dict[str, Any],
    ) -> Reply:
        master, slave = os.openpty()
        try:
            size = struct.pack("HHHH", message.get("rows", 24), message.get("cols", 80), 0, 0)
            fcntl.ioctl(slave, termios.TIOCSWINSZ, size)
            if identity:
                os.fchown(slave, identity["user"], -1)
            process = subprocess.Popen(
                argv,
                stdin=slave,
                stdout=slave,
                stderr=slave,
                cwd=cwd,
                env=env,
                start_new_session=True,
                # this process has one thread, so it is safe
                preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
                **identity,
            )
        except BaseException:
            os.close(master)
            raise
        finally:
            os.close(slave)
        return Reply((master,), job=self._register(process, connection), pid=process.pid)

    def _register(self, process: subprocess.Popen[bytes], connection: Connection) -> int:
        process.returncode = 0  # this loop reaps: Popen must not
        self._last_job += 1
        job = _Job(process.pid, connection)
        self._jobs[self._last_job] = self._by_pid[process.pid] = job
        return self._last_job

    def _ended(self, pid: int, status: int) -> None:
        job = self._by_pid.pop(pid, None)
        if job is None:
            self.on_other_child(pid, status)
            return
        job.status = os.waitstatus_to_exitcode(status)
        for connection, request in job.waiting:
            connection.answer(request, Reply(status=job.status))
        if job.waiting:
            self._forget(job)

    def _forget(self, job: _Job) -> None:
        for number, other in list(self._jobs.items()):
            if other is job:
                del self._jobs[number]

    def _job(self, message: wire.Message) -> _Job:
        try:
            return self._jobs[message["job"]]
        except KeyError:
            raise LookupError(f"no job {message['job']}") from None

    def _wait(self, connection: Connection, message: wire.Message, fds: list[int]) -> Reply | None:
        job = self._job(message)
        if job.status is None:
            job.waiting.append((connection, message["id"]))
            return None
        self._forget(job)
        return Reply(status=job.status)

    def _kill(self, connection: Connection, message: wire.Message, fds: list[int]) -> Reply:
        job = self._jobs.get(message["job"])
        if job is not None:
            self._signal(job, message["signal"])
        return Reply()

    def _signal(self, job: _Job, number: int) -> None:
        try:
            os.killpg(job.pid, number)
        except ProcessLookupError:
            pass

    def _hang_up(self, connection: Connection) -> None:
        for job in list(self._jobs.values()):
            job.waiting = [(c, r) for c, r in job.waiting if c is not connection]
            if job.owner is connection:
                if job.status is None:
                    self._signal(job, signal.SIGKILL)
                self._forget(job)

    # files and sockets

    def _open(self, connection: Connection, message: wire.Message, fds: list[int]) -> Reply:
        path = message["path"]
        # a pipe that nobody has open must not block all who use this machine
        flags = message["flags"] | os.O_CLOEXEC | os.O_NONBLOCK
        fd = os.open(path, flags, message.get("mode") or 0o644)
        try:
            if message.get("user"):  # first: a new owner takes the set-user-ID bit away
                account = accounts.find(message["user"])
                os.fchown(fd, account.uid, account.gid)
            if message.get("mode") is not None and message["flags"] & os.O_CREAT:
                os.fchmod(fd, message["mode"])
        except BaseException:
            os.close(fd)
            raise
        return Reply((fd,))

    def _stat(self, connection: Connection, message: wire.Message, fds: list[int]) -> Reply:
        info = os.stat(message["path"])
        return Reply(
            mode=info.st_mode,
            uid=info.st_uid,
            gid=info.st_gid,
            size=info.st_size,
            mtime=info.st_mtime,
        )

    def _mkdirs(self, connection: Connection, message: wire.Message, fds: list[int]) -> Reply:
        path = message["path"]
        if os.path.isdir(path):
            return Reply()
        os.makedirs(path, exist_ok=True)
        os.chmod(path, message.get("mode") or 0o755)
        if message.get("user"):
            account = accounts.find(message["user"])
            os.chown(path, account.uid, account.gid)
        return Reply()

    def _symlink(self, connection: Connection, message: wire.Message, fds: list[int]) -> Reply:
        if os.path.islink(message["path"]):
            os.unlink(message["path"])
        os.symlink(message["target"], message["path"])
        return Reply()

    def _chmod(self, connection: Connection, message: wire.Message, fds: list[int]) -> Reply:
        os.chmod(message["path"], message["mode"])
        return Reply()

    def _chown(self, connection: Connection, message: wire.Message, fds: list[int]) -> Reply:
        account = accounts.find(message["user"])
        os.chown(message["path"], account.uid, account.gid)
        return Reply()

    def _socket(self, connection: Connection, message: wire.Message, fds: list[int]) -> Reply:
        if message.get("host") is None:
            return Reply((new_socket(message),))
        address = _address_of(message["host"])
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        return Reply((new_socket({**message, "family": family}),), address=address)


def _address_of(host: str) -> str:
    """Address of a host by ``/etc/hosts``; an address stands for itself.

    :raises FileNotFoundError: it is not listed there.
    """
    if ":" in host or host.replace(".", "").isdigit():
        return host
    with open("/etc/hosts", encoding="utf-8", errors="replace") as file:
        for line in file:
            address, *names = line.partition("#")[0].split() or [""]
            if host in names:
                return address
    raise FileNotFoundError(errno.ENOENT, f"no host {host!r} in /etc/hosts")


def new_socket(message: wire.Message) -> int:
    """A socket of the network namespace that the caller is in; returns its descriptor.

    :raises OSError: it cannot be bound, or connected; that a connection is under way is no error.
    """
    sock = socket.socket(
        message.get("family", socket.AF_INET),
        message.get("type", socket.SOCK_STREAM),
        message.get("proto", 0),
    )
    try:
        if message.get("bind"):
            if sock.type == socket.SOCK_STREAM:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(tuple(message["bind"]))
        if message.get("listen"):
            sock.listen(message["listen"])
        if message.get("connect"):
            sock.setblocking(False)  # others are waiting, too
            number = sock.connect_ex(tuple(message["connect"]))
            if number not in (0, errno.EINPROGRESS):
                raise OSError(number, os.strerror(number))
            sock.setblocking(True)
    except BaseException:
        sock.close()
        raise
    return sock.detach()
