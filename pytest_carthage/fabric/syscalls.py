"""The system calls that Python 3.11 does not offer. Each raises OSError, naming the call.

Sources: unshare(2), setns(2), mount(2), umount2(2), mount_setattr(2), close_range(2), prctl(2),
capset(2).
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable

CLONE_FS = 0x00000200
CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_REMOUNT = 32
MS_BIND = 4096
MS_REC = 16384
MS_PRIVATE = 1 << 18
MS_SHARED = 1 << 20

MNT_DETACH = 2

#: of a page that options may fill, what layers may take
_MOST_OPTIONS = 2000
_AT_FDCWD = -100
_AT_RECURSIVE = 0x8000
_MOUNT_ATTR_RDONLY = 1
_SYS_MOUNT_SETATTR = 442
_SYS_CLOSE_RANGE = 436
_LAST_DESCRIPTOR = 0xFFFFFFFF

_PR_SET_PDEATHSIG = 1
_PR_CAPBSET_DROP = 24
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NAME = 15
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_CLEAR_ALL = 4

_libc = ctypes.CDLL(None, use_errno=True)


class _MountAttr(ctypes.Structure):
    _fields_ = (
        ("attr_set", ctypes.c_uint64),
        ("attr_clr", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns_fd", ctypes.c_uint64),
    )


def _checked(result: int, call: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{call}: {os.strerror(number)}")
    return result


def unshare(flags: int) -> None:
    """Leave the namespaces named by ``flags`` for new ones."""
    _checked(_libc.unshare(flags), f"unshare({flags:#x})")


def setns(fd: int, kind: int) -> None:
    """Enter the namespace behind a descriptor."""
    _checked(_libc.setns(fd, kind), f"setns({kind:#x})")


def mount(source: str, target: str, kind: str | None, flags: int = 0, data: str = "") -> None:
    """Mount a file system."""
    _checked(
        _libc.mount(
            source.encode(),
            target.encode(),
            kind.encode() if kind is not None else None,
            ctypes.c_ulong(flags),
            data.encode() if data else None,
        ),
        f"mount({kind or 'bind'} on {target})",
    )


def umount(target: str, flags: int = MNT_DETACH) -> None:
    """Unmount; lazily unless told otherwise."""
    _checked(_libc.umount2(target.encode(), flags), f"umount({target})")


def mount_overlay(target: str, lower: list[str], options: list[str]) -> None:
    """Mount an overlay of folders, the top first.

    The kernel takes a page of options: many layers get short names, in a folder that the calling
    process is in meanwhile.
    """
    target = os.path.abspath(target)
    if len(":".join(lower)) <= _MOST_OPTIONS:
        names = ":".join(map(_escaped, lower))
        mount("overlay", target, "overlay", 0, ",".join([f"lowerdir={names}", *options]))
        return
    here, short = os.getcwd(), f"{target}.layers"
    os.makedirs(short)
    try:
        os.chdir(short)
        for number, path in enumerate(lower):
            os.symlink(path, f"{number:x}")
        names = ":".join(f"{number:x}" for number in range(len(lower)))
        mount("overlay", target, "overlay", 0, ",".join([f"lowerdir={names}", *options]))
    finally:
        os.chdir(here)
        for name in os.listdir(short):
            os.unlink(f"{short}/{name}")
        os.rmdir(short)


def _escaped(path: str) -> str:
    """A path among overlayfs' options, where colons, commas and backslashes mean something."""
    return path.replace("\\", "\\\\").replace(":", "\\:").replace(",", "\\,")


def pivot_root(new: str, old: str) -> None:
    """Make a mounted folder the root of this mount namespace, see pivot_root(2)."""
    _checked(_libc.pivot_root(new.encode(), old.encode()), "pivot_root")


def make_read_only(path: str) -> None:
    """Make a mount and all below it read-only, in this mount namespace (Linux 5.12)."""
    attr = _MountAttr(attr_set=_MOUNT_ATTR_RDONLY)
    _checked(
        _libc.syscall(
            _SYS_MOUNT_SETATTR,
            _AT_FDCWD,
            path.encode(),
            ctypes.c_uint(_AT_RECURSIVE),
            ctypes.byref(attr),
            ctypes.c_size_t(ctypes.sizeof(attr)),
        ),
        f"mount_setattr({path})",
    )


def close_all_but(kept: Iterable[int]) -> None:
    """Close all descriptors of this process but these (Linux 5.9), in a few system calls."""
    first = 0
    for fd in [*sorted(set(kept)), _LAST_DESCRIPTOR + 1]:
        if fd > first:
            _checked(
                _libc.syscall(
                    _SYS_CLOSE_RANGE, ctypes.c_uint(first), ctypes.c_uint(fd - 1), ctypes.c_uint(0)
                ),
                f"close_range({first}, {fd - 1})",
            )
        first = fd + 1


def _prctl(option: int, *values: int) -> None:
    words = [ctypes.c_ulong(value) for value in (*values, 0, 0, 0, 0)[:4]]
    _checked(_libc.prctl(option, *words), f"prctl({option})")


def die_with_parent(signal_number: int) -> None:
    """Have the kernel send this signal to the caller when its parent ends."""
    _prctl(_PR_SET_PDEATHSIG, signal_number)


def become_subreaper() -> None:
    """Adopt orphaned descendants."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def set_process_name(name: str) -> None:
    """Set the name that ``ps -o comm`` shows (15 bytes)."""
    buffer = ctypes.create_string_buffer(name.encode()[:15])
    _checked(_libc.prctl(_PR_SET_NAME, buffer, 0, 0, 0), "prctl(PR_SET_NAME)")


def limit_capabilities(allowed: int) -> None:
    """Keep only the capabilities in the bit set ``allowed``, in every set, for good."""
    with open("/proc/sys/kernel/cap_last_cap") as file:
        last = int(file.read())
    for number in range(last + 1):
        if not allowed >> number & 1:
            _prctl(_PR_CAPBSET_DROP, number)
    _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    low, high = allowed & 0xFFFFFFFF, allowed >> 32 & 0xFFFFFFFF
    data = (ctypes.c_uint32 * 6)(low, low, low, high, high, high)
    _checked(_libc.capset(header, data), "capset")
