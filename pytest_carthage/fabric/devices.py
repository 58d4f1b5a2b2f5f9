"""The folder ``/dev`` of what is not a host: devices that hold nothing of anybody's, see null(4).

Permissions alone would let root open the host's disks: a read-only mount does not keep anybody
from writing to a device.
"""

from __future__ import annotations

import os
import stat

from pytest_carthage.fabric import syscalls as sys_

#: what every program may expect
STANDARD = ("null", "zero", "full", "random", "urandom", "tty")
#: what a machine works with, where the host has it: tunnels, file systems of programs, machines
OF_MACHINES = ("net/tun", "fuse", "kvm", "vhost-net")

#: what every user of a machine may open
_OPEN_TO_ALL = (*STANDARD, "net/tun", "fuse", "kvm")

_LINKS = {"fd": "/proc/self/fd", "stdin": "fd/0", "stdout": "fd/1", "stderr": "fd/2"}
_PTS = "newinstance,ptmxmode=0666,mode=0620"


def furnish(
    target: str, names: tuple[str, ...] = STANDARD, *, memory_mib: int | None = None
) -> None:
    """Mount devices of the caller's ``/dev`` at a folder, with terminals and memory of its own.

    :param memory_mib: what there is of it; None: the host's.
    :raises OSError: the kernel refused, named in the message.
    """
    sys_.mount("tmpfs", target, "tmpfs", sys_.MS_NOSUID, "mode=0755")
    for name in names:
        try:
            info = os.stat(f"/dev/{name}")
        except FileNotFoundError:
            continue
        node = f"{target}/{name}"
        if "/" in name:
            os.makedirs(os.path.dirname(node), exist_ok=True)
        try:
            os.mknod(node, info.st_mode, info.st_rdev)
        except PermissionError:  # of a user namespace
            with open(node, "w"):
                pass
            sys_.mount(f"/dev/{name}", node, None, sys_.MS_BIND)
            sys_.set_mount(node, clear=sys_.ATTR_NODEV)
        else:
            os.chmod(node, info.st_mode)
    _furnish_rest(target, _PTS, memory_mib)


def _furnish_rest(target: str, pts: str, memory_mib: int | None) -> None:
    """What is no device of the host: links, terminals, shared memory."""
    for name, link in _LINKS.items():
        os.symlink(link, f"{target}/{name}")
    for name in ("pts", "shm"):
        os.mkdir(f"{target}/{name}")
    mount_shared(f"{target}/shm", memory_mib)
    try:
        flags = sys_.MS_NOSUID | sys_.MS_NOEXEC
        sys_.mount("devpts", f"{target}/pts", "devpts", flags, pts)
    except OSError:  # this kernel has only one
        sys_.mount("/dev/pts", f"{target}/pts", None, sys_.MS_BIND)
    os.symlink("pts/ptmx", f"{target}/ptmx")


def mount_shared(target: str, memory_mib: int | None) -> None:
    """Mount shared memory at a folder: half of what there is, as tmpfs(5) has it by itself."""
    options = "mode=1777" + (f",size={memory_mib << 19}" if memory_mib is not None else "")
    sys_.mount("tmpfs", target, "tmpfs", sys_.MS_NOSUID | sys_.MS_NODEV, options)


def furnish_for(target: str, *, owner: int) -> None:
    """Mount a machine's devices at a folder, as the host's root: a user namespace makes none.

    They have the permissions that they have on any system: the host's may be stricter.

    :param owner: what the machine's root is here.
    :raises OSError: the kernel refused, named in the message.
    """
    sys_.mount("tmpfs", target, "tmpfs", sys_.MS_NOSUID, f"mode=0755,uid={owner},gid={owner}")
    for name in (*STANDARD, *OF_MACHINES):
        try:
            info = os.stat(f"/dev/{name}")
        except FileNotFoundError:
            continue
        node = f"{target}/{name}"
        if "/" in name:
            os.makedirs(os.path.dirname(node), exist_ok=True)
            os.chown(os.path.dirname(node), owner, owner)
        if _make_node(node, f"/dev/{name}", info):
            os.chmod(node, 0o666 if name in _OPEN_TO_ALL else stat.S_IMODE(info.st_mode))
            os.chown(node, owner, owner)
    # the kernel's log is the host's: what is written there goes nowhere, and nothing is read
    if _make_node(f"{target}/kmsg", "/dev/null", os.stat("/dev/null")):
        os.chown(f"{target}/kmsg", owner, owner)


def _make_node(node: str, source: str, info: os.stat_result) -> bool:
    """Have a device at a path; returns whether it is one of our own.

    Where none may be made, as in a user namespace, the host's own is shown, as it is.
    """
    try:
        os.mknod(node, info.st_mode, info.st_rdev)
    except PermissionError:
        with open(node, "w"):
            pass
        sys_.mount(source, node, None, sys_.MS_BIND)
        return False
    return True


def show(source: str, target: str) -> None:
    """Show devices that :func:`furnish_for` has made in a folder of the caller's own, file by file.

    A folder that was mounted from outside could not be taken away by anybody inside: nothing that
    it is below could be mounted elsewhere, see mount_namespaces(7).

    :raises OSError: the kernel refused, named in the message.
    """
    sys_.mount("tmpfs", target, "tmpfs", sys_.MS_NOSUID, "mode=0755")
    for folder, _, names in os.walk(source):
        own = target + folder.removeprefix(source)
        os.makedirs(own, exist_ok=True)
        for name in names:
            with open(f"{own}/{name}", "w"):
                pass
            sys_.mount(f"{folder}/{name}", f"{own}/{name}", None, sys_.MS_BIND)


def furnish_rest(target: str, *, tty: int, memory_mib: int | None) -> None:
    """Complete a machine's devices from inside: links, terminals, shared memory.

    :param tty: group of terminals.
    :param memory_mib: what there is of memory; None: the host's.
    :raises OSError: the kernel refused, named in the message.
    """
    _furnish_rest(target, f"{_PTS},gid={tty}", memory_mib)
