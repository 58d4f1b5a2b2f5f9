"""A workshop: the file system of an image that is not booted, with an agent in it.

It is an overlay of the image's layers in namespaces of its own, with a new top layer for what is
changed. The process is started with one argument, a JSON object: ``folder`` (holds the new layer
``tree``, and everything else that is needed meanwhile), ``lower`` (folders, the top first),
``network`` (the host's, or loopback only), ``hostname``, ``env``, ``unprivileged``. It writes
``ready``, or what went wrong, to its standard output, and ends with its standard input, and with
it all that was started inside. ``agent.sock`` in the folder takes the operations of an agent.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import sys
from typing import TYPE_CHECKING, Any

from pytest_carthage.fabric import bounds, devices, inheritance, netlink, refusals
from pytest_carthage.fabric import syscalls as sys_
from pytest_carthage.fabric.agent import Agent  # before the root changes
from pytest_carthage.fabric.rootfs import protect_host_settings
from pytest_carthage.fabric.wire.server import Reply  # before the root changes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_carthage.fabric.wire.server import Connection

_NO_SUID = sys_.MS_NOSUID | sys_.MS_NODEV


def main() -> None:
    """Be the workshop; returns when its owner is gone."""
    spec = json.loads(sys.argv[1])
    inheritance.put_off()
    os.chdir(spec["folder"])  # the kernel takes no more than 108 bytes as the path of a socket
    try:
        os.unlink("agent.sock")
    except FileNotFoundError:
        pass
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    os.umask(0o077)
    listener.bind("agent.sock")
    os.umask(0o022)
    listener.listen(64)
    flags = sys_.CLONE_NEWNS | sys_.CLONE_NEWPID | sys_.CLONE_NEWIPC | sys_.CLONE_NEWUTS
    try:
        sys_.unshare(flags | (0 if spec["network"] else sys_.CLONE_NEWNET))
    except OSError as error:
        _tell(f"no namespaces of its own: {error}")
        return
    pid = os.fork()
    if pid == 0:
        _become_first(spec, listener)
    listener.close()
    _wait_for_owner(pid)


def _wait_for_owner(pid: int) -> None:
    """Stay until standard input ends or the child does; then neither is left."""
    child = os.pidfd_open(pid)
    ready, _, _ = select.select([0, child], [], [])
    if child not in ready:
        os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def _tell(text: str) -> None:
    os.write(1, f"{text}\n".encode())


def _become_first(spec: Mapping[str, Any], listener: socket.socket) -> None:
    """Child, PID 1: enter the file system and serve; never returns."""
    status = 1
    try:
        sys_.die_with_parent(signal.SIGKILL)
        os.setsid()
        null = os.open("/dev/null", os.O_RDONLY)
        os.dup2(null, 0)
        os.close(null)
        socket.sethostname(spec["hostname"])
        if not spec["network"]:
            batch = netlink.Batch()
            batch.up("lo")
            batch.commit()
        _enter(spec)
        agent = Agent(env=spec["env"])
        refusals.enter(groups=False)
        if not spec["unprivileged"]:
            bounds.enter(network=not spec["network"])

        def channel(connection: Connection, message: Mapping[str, Any], fds: list[int]) -> Reply:
            connection.on_close.append(lambda: agent._hang_up(connection))
            return agent.greeting()

        def booted(connection: Connection, message: Mapping[str, Any], fds: list[int]) -> Reply:
            return Reply(booted=True)  # it has no init

        # who comes through a fabric says first which machine is meant: there is only this one
        agent.server.handlers |= {"channel": channel, "booted": booted}
        agent.server.listen(listener)
        _tell("ready")
        null = os.open("/dev/null", os.O_WRONLY)
        os.dup2(null, 1)
        os.close(null)
        agent.server.run()
        status = 0
    except BaseException as error:
        _tell(f"{type(error).__name__}: {error}" if not isinstance(error, OSError) else str(error))
    finally:
        os._exit(status)


def _enter(spec: Mapping[str, Any]) -> None:
    """Mount the overlay with what a program expects beside files, and make it the root."""
    sys_.mount("none", "/", None, sys_.MS_REC | sys_.MS_PRIVATE)
    for name in ("tree", "work", "root"):
        os.makedirs(name, exist_ok=True)
    options = ["metacopy=off", "index=off", "xino=off", "volatile"]
    # what a user namespace may use excludes every other word on redirections
    options += ["userxattr"] if spec["unprivileged"] else ["redirect_dir=off"]
    here = os.getcwd()
    sys_.mount_overlay("root", spec["lower"], options, upper=f"{here}/tree", work=f"{here}/work")
    root = os.path.abspath("root")
    _mount_system(root, network=spec["network"])
    if not spec["unprivileged"]:  # a user namespace may not write there anyway
        # nodes of devices in an image's other folders open nothing
        sys_.set_mount(root, add=sys_.ATTR_NODEV)
        protect_host_settings(root, network=spec["network"])
    os.chdir(root)
    sys_.pivot_root(".", ".")
    sys_.umount(".", sys_.MNT_DETACH)
    os.chdir("/")


def _mount_system(root: str, *, network: bool) -> None:
    def folder(path: str) -> str:
        full = f"{root}/{path}"
        if not os.path.isdir(full):
            os.makedirs(full)
        return full

    flags = _NO_SUID | sys_.MS_NOEXEC
    sys_.mount("proc", folder("proc"), "proc", flags)
    try:
        sys_.mount("sysfs", folder("sys"), "sysfs", flags | sys_.MS_RDONLY)
    except OSError:
        pass  # in a user namespace with the host's network
    for name in ("run", "tmp"):
        mode = "mode=1777" if name == "tmp" else "mode=0755"
        sys_.mount("tmpfs", folder(name), "tmpfs", _NO_SUID, mode)
    os.makedirs(f"{root}/run/lock", exist_ok=True)
    devices.furnish(folder("dev"))
    if network:
        for path in ("/etc/resolv.conf", "/etc/hosts"):
            _lend(path, root)


def _lend(path: str, root: str) -> None:
    """Show a copy of a file of the host, in place of the image's own.

    It is read-only: what a task writes there would be lost, and it is not to find its way out.
    """
    target = path
    for _ in range(8):  # a link of the image's is not to lead out of it
        try:
            link = os.readlink(root + target)
        except OSError:
            break
        target = os.path.normpath(os.path.join(os.path.dirname(target), link))
    full = root + target
    if target.startswith("/run/") and not os.path.lexists(full):
        os.makedirs(os.path.dirname(full), exist_ok=True)
        with open(full, "w"):
            pass
    if not os.path.isfile(path) or os.path.islink(full) or not os.path.isfile(full):
        return
    copy = os.path.abspath(f"lent{path.replace('/', '-')}")
    with open(path, "rb") as there, open(copy, "wb") as here:
        here.write(there.read())
    sys_.mount(copy, full, None, sys_.MS_BIND)
    sys_.set_mount(full, add=sys_.ATTR_RDONLY)
