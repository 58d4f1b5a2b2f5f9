"""The agent: runs commands and opens files and sockets *inside* a machine, for whoever asks.

It has entered all of the machine's namespaces, is within its cgroup and capabilities, and was
loaded before that: nothing of it is read from the machine's file system.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import struct
import subprocess
import termios
from functools import partial
from typing import TYPE_CHECKING, Any

from pytest_carthage.fabric import accounts, descent, inheritance, observe, plain_file
from pytest_carthage.fabric.container import modules, settings
from pytest_carthage.fabric.endpoint import Endpoint
from pytest_carthage.fabric.holding import holders
from pytest_carthage.fabric.jobs import Jobs
from pytest_carthage.fabric.limits import Admission
from pytest_carthage.fabric.named_files import FILE_WORK
from pytest_carthage.fabric.sftp import process as file_server
from pytest_carthage.fabric.wire import frames
from pytest_carthage.fabric.wire.server import Connection, Reply
from pytest_carthage.handles.lines import lines_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_carthage.fabric.named_files import FileWork
    from pytest_carthage.fabric.wire.server import Handler

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Agent(Endpoint):
    """Serves the operations that :mod:`pytest_carthage.fabric.wire.frames` lists for agents."""

    def __init__(
        self,
        *,
        env: Mapping[str, str],
        user: str = "root",
        files: int = inheritance.FILES,
        admission: Admission | None = None,
    ) -> None:
        """Make one.

        :param files: how many each command may have open.
        :param admission: where what it starts is, and it is not.
        """
        super().__init__()
        self.admission = admission or Admission()
        self._files = files
        self._env = dict(env)
        self._user = user
        self.offer(self._handlers())

    @classmethod
    def operations(cls) -> list[str]:
        """Names of what any agent answers, for who has none yet."""
        nobody = cls.__new__(cls)
        nobody.jobs = Jobs()
        return sorted(nobody._handlers())

    def _handlers(self) -> dict[str, Handler]:
        return {
            "run": self._run,
            "sftp": self._sftp,
            **self.jobs.handlers,
            "open": self._open,
            **{name: partial(_by_name, work) for name, work in FILE_WORK.items()},
            "socket": self._socket,
            "lookup": lambda c, m, f: Reply(address=_here(address_of(m["host"]))),
            "listening": lambda c, m, f: Reply(listening=observe.listening()),
            "holders": lambda c, m, f: Reply(holders=holders(m["inodes"])),
            "observe": lambda c, m, f: Reply(**observe.everything()),
            "settings": lambda c, m, f: Reply(
                changed=settings.changed() | dict.fromkeys(modules.changed(), "")
            ),
            "ping": lambda c, m, f: Reply(),
        }

    # commands

    def _run(self, connection: Connection, message: frames.Message, fds: list[int]) -> Reply:
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
        with descent.marked(self.jobs.next_mark), inheritance.few_files(self._files):
            process = subprocess.Popen(
                argv,
                stdin=fds[0],
                stdout=fds[1],
                stderr=fds[2],
                cwd=cwd,
                env=env,
                start_new_session=True,
                # this process has one thread, so it is safe
                preexec_fn=self.admission.before_exec,
                **identity,
            )
        return Reply(job=self.jobs.register(process, connection, message), pid=process.pid)

    def _folder(self, account: accounts.Account) -> str:
        return account.home if os.path.isdir(account.home) else "/"

    def _run_on_terminal(
        self,
        connection: Connection,
        message: frames.Message,
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
            with descent.marked(self.jobs.next_mark), inheritance.few_files(self._files):
                process = subprocess.Popen(
                    argv,
                    stdin=slave,
                    stdout=slave,
                    stderr=slave,
                    cwd=cwd,
                    env=env,
                    start_new_session=True,
                    preexec_fn=self._take_terminal,
                    **identity,
                )
        except BaseException:
            os.close(master)
            raise
        finally:
            os.close(slave)
        return Reply(
            (master,), job=self.jobs.register(process, connection, message), pid=process.pid
        )

    def _take_terminal(self) -> None:
        self.admission.enter()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    def _sftp(self, connection: Connection, message: frames.Message, fds: list[int]) -> Reply:
        """Serve files with the rights of a user, in a child that is no other program."""
        account = accounts.find(message.get("user") or self._user)
        if len(fds) != 3:
            raise ValueError(f"sftp takes 3 descriptors, got {len(fds)}")
        with descent.marked(self.jobs.next_mark), inheritance.few_files(self._files):
            pid = file_server.fork(account, self._folder(account), fds, self.admission)
        return Reply(job=self.jobs.register_child(pid, connection, message), pid=pid)

    # files and sockets

    def _open(self, connection: Connection, message: frames.Message, fds: list[int]) -> Reply:
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

    def _socket(self, connection: Connection, message: frames.Message, fds: list[int]) -> Reply:
        if message.get("host") is None:
            return Reply((new_socket(message),))
        address = _here(address_of(message["host"]))
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        return Reply((new_socket({**message, "family": family}),), address=address)


def _by_name(
    work: FileWork, connection: Connection, message: frames.Message, fds: list[int]
) -> Reply:
    return Reply(**work(message, _owner))


def _owner(user: str) -> tuple[int, int]:
    account = accounts.find(user)
    return account.uid, account.gid


def _here(address: str) -> str:
    """An address whose zone is a number: the names of interfaces mean others elsewhere.

    See RFC 4007, section 11.

    :raises OSError: there is no interface of this name.
    """
    plain, sign, zone = address.partition("%")
    if not sign or zone.isdecimal():
        return address
    try:
        return f"{plain}%{socket.if_nametoindex(zone)}"
    except OSError:
        names = ", ".join(name for _, name in socket.if_nameindex())
        text = f"no interface {zone!r} for {address}; there are: {names}"
        raise OSError(errno.ENODEV, text) from None


def address_of(host: str, hosts: str | None = None) -> str:
    """Address of a host by ``/etc/hosts``; an address stands for itself.

    :param hosts: text of that file; None: the one that this process sees.

    :raises FileNotFoundError: it is not listed there.
    """
    if ":" in host or host.replace(".", "").isdigit():
        return host
    if hosts is None:
        hosts = plain_file.read("/etc/hosts").decode(errors="replace")
    for line in lines_of(hosts):
        address, *names = line.partition("#")[0].split() or [""]
        if host in names:
            return address
    raise FileNotFoundError(errno.ENOENT, f"no host {host!r} in /etc/hosts")


def new_socket(message: frames.Message) -> int:
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
