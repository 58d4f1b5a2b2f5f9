"""The way of a program of the host into a station: another network, the same files.

It sees the host's files, as the user that it is. What it does not find are the sockets by which the
host's services are reached, which would be a way around the network: those in ``/run``, and
wherever else somebody listens. See unix(7), namespaces(7).
"""

from __future__ import annotations

import fcntl
import os
from typing import TypedDict

from pytest_carthage.fabric import seclusion
from pytest_carthage.fabric import syscalls as sys_

__all__ = ["Entry", "User", "enter", "settle"]

#: ioctl that gives the user namespace that owns a namespace, see ioctl_ns(2)
_NS_GET_USERNS = 0xB701


#: what every program there has for itself: mounts, and the name of the host
_OWN = sys_.CLONE_NEWNS | sys_.CLONE_NEWUTS
#: number of a user, and of a group
User = tuple[int, int]


class Entry(TypedDict):
    """Where a program goes, and what it finds there."""

    #: descriptor of the network namespace; -1: a new one, which has its loopback alone
    network: int
    #: descriptor of the PID namespace; -1: a new one, which ends with the program
    processes: int
    #: file to the path at which it is seen in place of the host's
    files: dict[str, str]
    #: sockets, and folders of sockets, that stay
    sockets: list[str]


def enter(entry: Entry) -> User:
    """Leave for the station; the PID namespace is that of the next child, which has to settle.

    :returns: who the caller was, to whom the child settles.
    :raises OSError: the kernel refused, named in the message.
    """
    user = os.geteuid(), os.getegid()
    sockets = seclusion.listening()
    is_new = entry["network"] < 0
    is_mapped = _make(user) if is_new else _become_owner(entry["network"])
    if not is_new:
        sys_.unshare(_OWN)
    # what is mounted on the host meanwhile is seen, and nothing the other way round
    sys_.mount("none", "/", None, sys_.MS_REC | sys_.MS_SLAVE)
    seclusion.hide(sockets, keep=entry["sockets"])
    if is_mapped:
        seclusion.own_settings()
    for source, target in entry["files"].items():
        sys_.mount(source, target, None, sys_.MS_BIND)
    if is_new:
        _set_up_loopback()
    else:
        sys_.setns(entry["network"], sys_.CLONE_NEWNET)
        sys_.setns(entry["processes"], sys_.CLONE_NEWPID)
        os.close(entry["network"])
        os.close(entry["processes"])
    seclusion.show_network()
    return user


def settle(user: User) -> None:
    """Child, in the PID namespace: see its processes, and be the user that the host knows.

    In an ordinary user's fabric he is root; what he starts is to find the number that he has.

    :raises OSError: the kernel refused, named in the message.
    """
    sys_.mount("proc", "/proc", "proc", sys_.MS_NOSUID | sys_.MS_NODEV | sys_.MS_NOEXEC)
    now = os.geteuid(), os.getegid()
    if now != user:
        sys_.unshare(sys_.CLONE_NEWUSER)
        _map(user, now)


def _make(user: User) -> bool:
    """Make new namespaces; returns whether one of them is of users."""
    flags = _OWN | sys_.CLONE_NEWNET | sys_.CLONE_NEWPID
    try:
        sys_.unshare(flags)
    except PermissionError:
        sys_.unshare(flags | sys_.CLONE_NEWUSER)
        _map(user, user)
        return True
    return False


def _become_owner(network: int) -> bool:
    """Enter the user namespace of an ordinary user's fabric, where he may do what follows.

    :returns: whether it is another one than the caller's.
    """
    users = fcntl.ioctl(network, _NS_GET_USERNS)
    try:
        if os.path.samestat(os.fstat(users), os.stat("/proc/self/ns/user")):
            return False
        sys_.setns(users, sys_.CLONE_NEWUSER)
        return True
    finally:
        os.close(users)


def _map(inside: User, outside: User) -> None:
    with open("/proc/self/setgroups", "w") as file:
        file.write("deny")
    for name, number, meant in zip(("uid_map", "gid_map"), inside, outside, strict=True):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(f"{number} {meant} 1")


def _set_up_loopback() -> None:
    from pytest_carthage.fabric import netlink

    batch = netlink.Batch()
    batch.up("lo")
    batch.commit()
