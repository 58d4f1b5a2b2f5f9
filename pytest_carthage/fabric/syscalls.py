"""The system calls that Python 3.11 does not offer. Each raises OSError, naming the call.

Sources: unshare(2), setns(2), mount(2), umount2(2), mount_setattr(2), open_tree(2),
move_mount(2), close_range(2), prctl(2), capset(2), ptrace(2), keyctl(2), ioprio_set(2),
personality(2), seccomp(2), syncfs(2).
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Iterable

CLONE_NEWTIME = 0x00000080
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
MS_MOVE = 8192
MS_REC = 16384
MS_PRIVATE = 1 << 18
MS_SLAVE = 1 << 19
MS_SHARED = 1 << 20

MNT_DETACH = 2

ATTR_RDONLY = 1
ATTR_NODEV = 4
ATTR_IDMAP = 0x00100000

PTRACE_DETACH = 17
PTRACE_SEIZE = 0x4206
PTRACE_INTERRUPT = 0x4207
PTRACE_SECCOMP_GET_FILTER = 0x420C
#: also threads, and who is nobody's child: waitpid(2)
WALL = 0x40000000

#: of a page that options may fill, what layers may take
_MOST_OPTIONS = 2000
_AT_FDCWD = -100
_AT_RECURSIVE = 0x8000
_AT_EMPTY_PATH = 0x1000
_OPEN_TREE_CLONE = 1
_MOVE_MOUNT_F_EMPTY_PATH = 4
_SYS_KEYCTL = {"x86_64": 250, "i686": 288, "armv7l": 311}.get(os.uname().machine, 219)
_KEYCTL_JOIN_SESSION_KEYRING = 1
_SYS_IOPRIO_SET = {"x86_64": 251, "i686": 289, "armv7l": 314}.get(os.uname().machine, 30)
_IOPRIO_WHO_PROCESS = 1
# the same number on all machines since Linux 5.2
_SYS_OPEN_TREE = 428
_SYS_MOVE_MOUNT = 429
_SYS_MOUNT_SETATTR = 442
_SYS_CLOSE_RANGE = 436
_LAST_DESCRIPTOR = 0xFFFFFFFF

_PR_GET_SECUREBITS = 27
_PR_SET_SECUREBITS = 28
_SECBIT_NO_SETUID_FIXUP = 1 << 2
_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_SECCOMP = 22
_PR_SET_TIMERSLACK = 29
_PR_CAPBSET_DROP = 24
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NAME = 15
_PR_SET_NO_NEW_PRIVS = 38
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_CLEAR_ALL = 4
_SECCOMP_MODE_FILTER = 2
#: what the kernel gives to its first process
_TIMER_SLACK_NS = 50_000
_SECCOMP_SET_MODE_FILTER = 1
_SECCOMP_FILTER_FLAG_SPEC_ALLOW = 4
_SYS_SECCOMP = {"x86_64": 317, "i686": 354, "armv7l": 383}.get(os.uname().machine, 277)
_CAPABILITIES_3 = 0x20080522

_libc = ctypes.CDLL(None, use_errno=True)
#: keeps the interpreter's lock during a call
_own_libc = ctypes.PyDLL(None, use_errno=True)
_libc.signal.argtypes = (ctypes.c_int, ctypes.c_void_p)
_libc.signal.restype = ctypes.c_void_p
_libc.prctl.argtypes = (ctypes.c_int, *(ctypes.c_ulong,) * 4)
_libc.ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)
_libc.ptrace.restype = ctypes.c_long


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


def fork() -> int:
    """Fork as :func:`os.fork` does, without what modules have registered to be done in children.

    That is about threads and random numbers: the caller has one thread, and its children make no
    random numbers that nobody else must guess. It would touch some fifty pages more, which each
    child then has of its own.
    """
    return _checked(_own_libc.fork(), "fork()")


def default_signals(numbers: Iterable[int]) -> None:
    """Have signals do what they do by default, see signal(7); :mod:`signal` is not told."""
    for number in numbers:
        _libc.signal(number, None)


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
            os.fsencode(source),
            os.fsencode(target),
            kind.encode() if kind is not None else None,
            ctypes.c_ulong(flags),
            os.fsencode(data) if data else None,
        ),
        f"mount({kind or 'bind'} on {target})",
    )


def umount(target: str, flags: int = MNT_DETACH) -> None:
    """Unmount; lazily unless told otherwise."""
    _checked(_libc.umount2(os.fsencode(target), flags), f"umount({target})")


def mount_overlay(
    target: str, lower: list[str], options: list[str], *, upper: str, work: str, flags: int = 0
) -> None:
    """Mount an overlay of folders, the top first, below one that is written to.

    The kernel takes a page of options: many layers get short names, in a folder that the calling
    process is in meanwhile.
    """
    target = os.path.abspath(target)
    options = [f"upperdir={_escaped(upper)}", f"workdir={_escaped(work)}", *options]
    if len(":".join(lower)) <= _MOST_OPTIONS:
        names = ":".join(map(_escaped, lower))
        mount("overlay", target, "overlay", flags, ",".join([f"lowerdir={names}", *options]))
        return
    here, short = os.getcwd(), f"{target}.layers"
    os.makedirs(short)
    try:
        os.chdir(short)
        for number, path in enumerate(lower):
            os.symlink(path, f"{number:x}")
        names = ":".join(f"{number:x}" for number in range(len(lower)))
        mount("overlay", target, "overlay", flags, ",".join([f"lowerdir={names}", *options]))
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
    _checked(_libc.pivot_root(os.fsencode(new), os.fsencode(old)), "pivot_root")


def set_mount(path: str, *, add: int = 0, clear: int = 0, deep: bool = False) -> None:
    """Change attributes of a mount, in this mount namespace (Linux 5.12).

    :param deep: of all that is mounted below, too.
    """
    attr = _MountAttr(attr_set=add, attr_clr=clear)
    _checked(
        _libc.syscall(
            _SYS_MOUNT_SETATTR,
            _AT_FDCWD,
            os.fsencode(path),
            ctypes.c_uint(_AT_RECURSIVE if deep else 0),
            ctypes.byref(attr),
            ctypes.c_size_t(ctypes.sizeof(attr)),
        ),
        f"mount_setattr({path})",
    )


def mount_idmapped(source: str, target: str, user_namespace: int) -> None:
    """Show a folder at another place, with owners as a user namespace's map has them (Linux 5.12).

    :param user_namespace: its descriptor.
    :raises OSError: the kernel refused: not every file system can be shown so.
    """
    tree = _checked(
        _libc.syscall(
            _SYS_OPEN_TREE,
            _AT_FDCWD,
            os.fsencode(source),
            ctypes.c_uint(_OPEN_TREE_CLONE | os.O_CLOEXEC),
        ),
        f"open_tree({source})",
    )
    try:
        attr = _MountAttr(attr_set=ATTR_IDMAP, userns_fd=user_namespace)
        _checked(
            _libc.syscall(
                _SYS_MOUNT_SETATTR,
                tree,
                b"",
                ctypes.c_uint(_AT_EMPTY_PATH),
                ctypes.byref(attr),
                ctypes.c_size_t(ctypes.sizeof(attr)),
            ),
            f"mount_setattr({source}, idmapped)",
        )
        _checked(
            _libc.syscall(
                _SYS_MOVE_MOUNT,
                tree,
                b"",
                _AT_FDCWD,
                os.fsencode(target),
                ctypes.c_uint(_MOVE_MOUNT_F_EMPTY_PATH),
            ),
            f"move_mount({target})",
        )
    finally:
        os.close(tree)


def syncfs(fd: int) -> None:
    """Have all of a file system on its disk, by a descriptor of a file there; see syncfs(2)."""
    _checked(_libc.syncfs(fd), "syncfs")


def leave_keyring() -> None:
    """Have a session keyring of one's own, in place of the starter's, see keyrings(7)."""
    result = _libc.syscall(_SYS_KEYCTL, _KEYCTL_JOIN_SESSION_KEYRING, None)
    if result < 0 and ctypes.get_errno() != errno.ENOSYS:  # else the kernel has none
        _checked(-1, "keyctl(KEYCTL_JOIN_SESSION_KEYRING)")


def reset_capability_rules() -> None:
    """Have capabilities follow the user of the caller as by default, see capabilities(7)."""
    if _libc.prctl(_PR_GET_SECUREBITS, 0, 0, 0, 0):
        _prctl(_PR_SET_SECUREBITS, 0)


def reset_io_priority() -> None:
    """Have the priority of the caller's input and output follow its niceness, as by default."""
    _checked(_libc.syscall(_SYS_IOPRIO_SET, _IOPRIO_WHO_PROCESS, 0, 0), "ioprio_set()")


def reset_personality() -> None:
    """Be a process of Linux as any: with random addresses, and this machine's own name."""
    _checked(_libc.personality(ctypes.c_ulong(0)), "personality(0)")


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
    _checked(_libc.prctl(option, *values, *(0,) * (4 - len(values))), f"prctl({option})")


def die_with_parent(signal_number: int) -> None:
    """Have the kernel send this signal to the caller when its parent ends."""
    _prctl(_PR_SET_PDEATHSIG, signal_number)


def be_looked_into(allowed: bool) -> None:
    """Have who has the caller's user id look into it, or only who has power over its program.

    Of who may not be looked into, also its own files in /proc are root's: see prctl(2),
    PR_SET_DUMPABLE.
    """
    _prctl(_PR_SET_DUMPABLE, int(allowed))


def keep_capabilities() -> None:
    """Have the caller's capabilities be what they are when its user changes.

    :raises OSError: it may not: it has no capability for that.
    """
    _prctl(_PR_SET_SECUREBITS, _SECBIT_NO_SETUID_FIXUP)


def become_subreaper() -> None:
    """Adopt orphaned descendants."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def set_process_name(name: str) -> None:
    """Set the name that ``ps -o comm`` shows (15 bytes)."""
    buffer = ctypes.create_string_buffer(name.encode()[:15])
    _prctl(_PR_SET_NAME, ctypes.addressof(buffer))


def set_command_line(text: str) -> None:
    """Have ``ps`` show a text in place of this process's arguments, see proc(5), cmdline."""
    with open("/proc/self/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    begin, end = int(fields[45]), int(fields[46])
    size = end - begin
    if begin > 0 and size > 0:
        ctypes.memmove(begin, text.encode()[: size - 1].ljust(size, b"\0"), size)


def reset_timer_slack() -> None:
    """Have timers of the caller, and of its children, be as exact as by default."""
    _prctl(_PR_SET_TIMERSLACK, _TIMER_SLACK_NS)


def filter_calls(program: int) -> None:
    """Put a system call filter on the calling process; takes the address of a sock_fprog."""
    _prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, program)


def refuse_calls(program: int) -> None:
    """Put a system call filter on the calling process that is for others' sake, not against it.

    So it is not slowed down by what protects a process from its own guests (Linux 4.17).

    :param program: address of a sock_fprog.
    """
    result = _libc.syscall(
        _SYS_SECCOMP,
        _SECCOMP_SET_MODE_FILTER,
        _SECCOMP_FILTER_FLAG_SPEC_ALLOW,
        ctypes.c_void_p(program),
    )
    _checked(result, "seccomp(SECCOMP_SET_MODE_FILTER)")


def gain_no_privileges() -> None:
    """Have no program that this process or a descendant starts give it more rights."""
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def ptrace(request: int, pid: int, address: int = 0, data: int = 0) -> int:
    """Trace a process of the caller's PID namespace."""
    return _checked(_libc.ptrace(request, pid, address, data), f"ptrace({request:#x})")


def drop_from_bounds(numbers: Iterable[int]) -> None:
    """Keep programs that are executed from now on from ever having these capabilities."""
    for number in numbers:
        _prctl(_PR_CAPBSET_DROP, number)


def limit_capabilities(allowed: int) -> None:
    """Keep only capabilities in the bit set ``allowed``, for good; children inherit none by files.

    The bounding set is what a program that root starts may have at most, see capabilities(7).
    """
    # of a hundred machines each does this: no word more than needed
    prctl = _libc.prctl
    for number in range(64):
        if not allowed >> number & 1 and prctl(_PR_CAPBSET_DROP, number, 0, 0, 0) < 0:
            if ctypes.get_errno() != errno.EINVAL:
                _checked(-1, "prctl(PR_CAPBSET_DROP)")
            break  # the kernel knows no more
    _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    header = (ctypes.c_uint32 * 2)(_CAPABILITIES_3, 0)
    # effective, permitted, inheritable: the lower words first
    data = (ctypes.c_uint32 * 6)()
    _checked(_libc.capget(header, data), "capget")
    low, high = (data[word] & allowed >> shift & 0xFFFFFFFF for word, shift in ((1, 0), (4, 32)))
    data = (ctypes.c_uint32 * 6)(low, low, 0, high, high, 0)
    _checked(_libc.capset(header, data), "capset")
