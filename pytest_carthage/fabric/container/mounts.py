"""The file system of a system container, made from inside of its namespaces.

What came from the fabric's mount namespace is locked there: the root is bound onto itself before it
becomes one, see mount_namespaces(7).
"""

from __future__ import annotations

import os
import uuid
from typing import TYPE_CHECKING

from pytest_carthage.fabric import devices
from pytest_carthage.fabric import syscalls as sys_
from pytest_carthage.fabric.container import groups, modules, settings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_carthage.fabric.shares import Shares

_KERNEL = sys_.MS_NOSUID | sys_.MS_NODEV | sys_.MS_NOEXEC
_DATA = sys_.MS_NOSUID | sys_.MS_NODEV
#: of the machine's /dev: what is not for its programs
HIDDEN = "dev/.carthage"
#: beside a root: where its devices are made
_DEVICES = ".devices"
_INTERFACES = "/sys/devices/virtual/net"
_NO_SWAP = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"
_BOOT_ID = "/proc/sys/kernel/random/boot_id"
#: group of terminals: the same in all distributions
_TTY = 5


def prepare(root: str, owner: int) -> None:
    """Have for ``root`` what only the host's root can make, in a mount namespace for the caller.

    :param owner: what the machine's root is here.
    :raises OSError: the kernel refused, named in the message.
    """
    sys_.unshare(sys_.CLONE_NEWNS)
    sys_.mount("none", "/", None, sys_.MS_REC | sys_.MS_PRIVATE)
    os.makedirs(f"{root}{_DEVICES}", exist_ok=True)
    devices.furnish_for(f"{root}{_DEVICES}", owner=owner)


def enter(
    root: str, *, is_strict: bool, boots: bool, memory_mib: int | None, own: Shares | None
) -> None:
    """Make ``root`` the root of the calling process, alone in new namespaces, and complete it.

    :param boots: whether it boots an init, which bounds its units.
    :param is_strict: settings of the host are refused; else the machine has a copy of them.
    :param memory_mib: what it may use of memory; None: all there is.
    :param own: tells of what it has of the host, and is mounted; None: that has all.
    :raises OSError: the kernel refused, named in the message.
    """
    sys_.mount("none", "/", None, sys_.MS_REC | sys_.MS_PRIVATE)
    sys_.mount(root, root, None, sys_.MS_BIND | sys_.MS_REC)
    for name, mode in (("dev", 0o755), ("proc", 0o555), ("sys", 0o555), ("run", 0o755)):
        if not os.path.isdir(f"{root}/{name}"):
            os.mkdir(f"{root}/{name}", mode)
    for name in ("tmp", "var/tmp"):
        if not os.path.isdir(f"{root}/{name}"):
            os.makedirs(f"{root}/{name}")
            os.chmod(f"{root}/{name}", 0o1777)
    sys_.mount("proc", f"{root}/proc", "proc", _KERNEL)
    sys_.mount("sysfs", f"{root}/sys", "sysfs", _KERNEL)
    # as for any container: read-only, so that udev and the like stay off, but for its interfaces
    sys_.mount(root + _INTERFACES, root + _INTERFACES, None, sys_.MS_BIND)
    sys_.set_mount(f"{root}/sys", add=sys_.ATTR_RDONLY)
    groups.mount(f"{root}/sys/fs/cgroup", controllers=boots)
    devices.show(f"{root}{_DEVICES}", f"{root}/dev")
    devices.furnish_rest(f"{root}/dev", tty=_TTY, memory_mib=memory_mib)
    sys_.mount("tmpfs", f"{root}/run", "tmpfs", _DATA, "mode=0755")
    os.mkdir(f"{root}/run/lock")
    os.chmod(f"{root}/run/lock", 0o1777)
    hidden = f"{root}/{HIDDEN}"
    os.mkdir(hidden, 0o711)
    # a program of the machine may make namespaces in turn, with a /proc and a /sys of their own:
    # the kernel allows that as long as there is one that nothing is mounted over
    for name, kind in (("proc", "proc"), ("sys", "sysfs")):
        os.mkdir(f"{hidden}/{name}")
        sys_.mount(kind, f"{hidden}/{name}", kind, _KERNEL)
    if not is_strict:
        settings.cover(root)
        modules.cover(root)
        _show(f"{hidden}/swaps", _NO_SWAP, f"{root}/proc/swaps")
    if own is not None:
        own.show(root)
    _show(f"{hidden}/boot_id", f"{uuid.uuid4()}\n", root + _BOOT_ID)
    os.chdir(root)
    sys_.pivot_root(".", ".")
    sys_.umount(".", sys_.MNT_DETACH)
    os.chdir("/")


def _show(file: str, text: str, target: str, *, mode: int = 0o444) -> None:
    """Show a text, which stays as it is, in place of a file of the kernel's."""
    with open(file, "w") as new:
        new.write(text)
    os.chmod(file, mode)
    sys_.mount(file, target, None, sys_.MS_BIND)
    sys_.set_mount(target, add=sys_.ATTR_RDONLY)


def show_first(env: Mapping[str, str]) -> str:
    """Show a first process in ``/proc/1`` that is none of the host's; returns what it prints to.

    Who is the first process has memory of the host's, and may not be looked into. Programs open its
    output (``/proc/1/fd/1``) and look at its environment all the same.

    :returns: a pipe of the machine's.
    :raises OSError: the kernel refused, named in the message.
    """
    folder = f"/{HIDDEN}/first"
    output = f"{folder}/output"
    os.makedirs(f"{folder}/fd", 0o755)
    os.mkfifo(output)
    os.chmod(output, 0o622)
    for number, target in enumerate(("/dev/null", output, output)):
        os.symlink(target, f"{folder}/fd/{number}")
    text = "".join(f"{name}={value}\0" for name, value in env.items())
    _show(f"{folder}/environ", text, "/proc/1/environ", mode=0o400)
    sys_.mount(f"{folder}/fd", "/proc/1/fd", None, sys_.MS_BIND)
    sys_.set_mount("/proc/1/fd", add=sys_.ATTR_RDONLY)
    os.symlink(output, "/dev/console")
    return output


def make_console() -> tuple[int, int]:
    """Have a terminal of the machine as its console; returns both ends, the outer one first."""
    outer, inner = os.openpty()
    with open("/dev/console", "w"):
        pass
    sys_.mount(os.ttyname(inner), "/dev/console", None, sys_.MS_BIND)
    return outer, inner
