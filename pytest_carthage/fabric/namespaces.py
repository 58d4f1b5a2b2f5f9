"""The namespaces that the fabric's init lives in, and short visits to those of machines."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NoReturn

from pytest_carthage.fabric import devconf
from pytest_carthage.fabric import syscalls as sys_

if TYPE_CHECKING:
    from pytest_carthage.fabric.host.subids import Maps


class Visit:
    """Puts the calling process into a network namespace while the block runs.

    Nobody may wait in it: others would be served in the wrong namespace.
    """

    def __init__(self, network: int, home: int) -> None:
        self._network = network
        self._home = home

    def __enter__(self) -> None:
        sys_.setns(self._network, sys_.CLONE_NEWNET)

    def __exit__(self, *exc: object) -> None:
        sys_.setns(self._home, sys_.CLONE_NEWNET)


class Home:
    """The namespaces of the process that makes this."""

    def __init__(self) -> None:
        self.pids = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
        self.network = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)

    def visit(self, network: int) -> Visit:
        """A visit to a network namespace."""
        return Visit(network, self.network)

    def new_network(self) -> int:
        """Make a network namespace; returns its descriptor."""
        sys_.unshare(sys_.CLONE_NEWNET)
        try:
            devconf.reset()
            return os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        finally:
            sys_.setns(self.network, sys_.CLONE_NEWNET)

    def bear_here(self) -> None:
        """Have children be born into our own PID namespace again."""
        sys_.setns(self.pids, sys_.CLONE_NEWPID)


def become_root() -> None:
    """Be root in the user namespace that the caller is in, whose ids are mapped."""
    os.setgroups([])
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)


def map_user(uid: int, gid: int) -> None:
    """Be root in the user namespace that the caller is in, which is new."""
    with open("/proc/self/setgroups", "w") as file:
        file.write("deny")
    with open("/proc/self/uid_map", "w") as file:
        file.write(f"0 {uid} 1")
    with open("/proc/self/gid_map", "w") as file:
        file.write(f"0 {gid} 1")


def leave_host(*, unprivileged: bool) -> None:
    """Leave for the fabric's own namespaces; the PID namespace is that of the next child.

    :raises OSError: the kernel refused, named in the message.
    """
    uid, gid = os.getuid(), os.getgid()
    flags = sys_.CLONE_NEWNET | sys_.CLONE_NEWNS | sys_.CLONE_NEWPID | sys_.CLONE_NEWIPC
    if not unprivileged:
        sys_.unshare(flags)
        return
    from pytest_carthage.fabric.host import subids  # only where there is no privilege

    if (maps := subids.of_user()) is not None:
        _leave_with(maps, flags)
    else:
        sys_.unshare(flags | sys_.CLONE_NEWUSER)
        map_user(uid, gid)


def _leave_with(maps: Maps, flags: int) -> None:
    """Leave for a user namespace with subordinate ids: a process that stays outside gives them.

    :raises OSError: they were refused.
    """
    heard, hear = os.pipe2(os.O_CLOEXEC)
    told, tell = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        os.close(hear)
        _give(maps, os.getppid(), heard, tell)
    os.close(heard)
    os.close(tell)
    try:
        sys_.unshare(flags | sys_.CLONE_NEWUSER)
        os.write(hear, b"x")
        with os.fdopen(told, "rb", closefd=False) as answer:
            word = answer.read()
    finally:
        os.close(hear)
        os.close(told)
        os.waitpid(pid, 0)
    if word != b"given":
        text = word.decode(errors="replace").strip()
        raise OSError(f"its subordinate ids: {text or 'no word of who gives them'}")


def _give(maps: Maps, pid: int, heard: int, tell: int) -> NoReturn:
    """Child: give ids to a process as soon as it says that it has left."""
    import subprocess

    from pytest_carthage.fabric.host.programs import PATH

    try:
        if os.read(heard, 1):
            for program, ids in (("newuidmap", maps.uids), ("newgidmap", maps.gids)):
                done = subprocess.run(
                    [program, str(pid), *map(str, ids)],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                    env={"PATH": PATH},
                    check=False,
                )
                if done.returncode:
                    os.write(tell, done.stderr or f"{program}: {done.returncode}".encode())
                    break
            else:
                os.write(tell, b"given")
    except OSError as error:
        os.write(tell, str(error).encode())
    finally:
        os._exit(0)
