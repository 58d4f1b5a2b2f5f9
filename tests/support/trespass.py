"""Attempts of a machine's root at what is not the machine's, none of which could hurt anybody.

A row is a few system calls; what counts is how the last one ends. ``because`` says why nothing
would be different if it succeeded. All rows are made by one program (``trespass.pl``: each Debian
has Perl, and few images have a Python that can make calls), once in each machine.
"""

from __future__ import annotations

import errno
import os
import platform
import socket
import stat
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

__all__ = ["PROGRAM", "Marks", "Row", "names", "problems", "tables", "text"]

PROGRAM = Path(__file__).with_suffix(".pl").read_text()

#: numbers of system calls: of x86-64, and of the kernel's generic table
_NUMBERS = {
    "acct": (163, 89),
    "add_key": (248, 217),
    "adjtimex": (159, 171),
    "bpf": (321, 280),
    "capget": (125, 90),
    "chroot": (161, 51),
    "clock_adjtime": (305, 266),
    "connect": (42, 203),
    "delete_module": (176, 106),
    "faccessat": (269, 48),
    "fanotify_init": (300, 262),
    "fchmodat": (268, 53),
    "fchownat": (260, 54),
    "finit_module": (313, 273),
    "get_robust_list": (274, 100),
    "getpgid": (121, 155),
    "getpriority": (140, 141),
    "getsid": (124, 156),
    "init_module": (175, 105),
    "ioctl": (16, 29),
    "ioperm": (173, -1),
    "iopl": (172, -1),
    "ioprio_get": (252, 31),
    "ioprio_set": (251, 30),
    "kcmp": (312, 272),
    "kexec_file_load": (320, 294),
    "kexec_load": (246, 104),
    "keyctl": (250, 219),
    "kill": (62, 129),
    "migrate_pages": (256, 238),
    "mknodat": (259, 33),
    "mount": (165, 40),
    "move_pages": (279, 239),
    "mq_open": (240, 180),
    "msgget": (68, 186),
    "open_by_handle_at": (304, 265),
    "openat": (257, 56),
    "perf_event_open": (298, 241),
    "pidfd_open": (434, 434),
    "prlimit64": (302, 261),
    "ptrace": (101, 117),
    "quotactl_fd": (443, 443),
    "reboot": (169, 142),
    "renameat2": (316, 276),
    "request_key": (249, 218),
    "rt_sigqueueinfo": (129, 138),
    "sched_getaffinity": (204, 123),
    "sched_getscheduler": (145, 120),
    "sched_setaffinity": (203, 122),
    "sched_setscheduler": (144, 119),
    "semget": (64, 190),
    "setns": (308, 268),
    "setpgid": (109, 154),
    "setpriority": (141, 140),
    "setresuid": (117, 147),
    "settimeofday": (164, 170),
    "setxattr": (188, 5),
    "shmget": (29, 194),
    "socket": (41, 198),
    "statfs": (137, 43),
    "swapoff": (168, 225),
    "swapon": (167, 224),
    "syslog": (103, 116),
    "tgkill": (234, 131),
    "timerfd_create": (283, 85),
    "truncate": (76, 45),
    "unshare": (272, 97),
    "utimensat": (280, 88),
    "vhangup": (153, 58),
    "waitid": (247, 95),
}
_AT_FDCWD = -100
_O_RDONLY, _O_WRONLY = 0, 1
_NEWNS, _NEWCGROUP, _NEWUSER = 0x00020000, 0x02000000, 0x10000000

Word = int | str | bytes


def call(name: str, *words: Word, optional: bool = False) -> str:
    """A system call as the program reads it; its result is of no interest where it is optional."""
    number = _NUMBERS[name][platform.machine() != "x86_64"]
    encoded = [word if isinstance(word, str) else _encoded(word) for word in words]
    return " ".join([f"{number}{'?' if optional else ''}", *encoded])


def _encoded(word: int | bytes) -> str:
    return str(word) if isinstance(word, int) else f"x{(word + bytes(1)).hex()}"


def _opened(path: str, flags: int = _O_RDONLY) -> str:
    return call("openat", _AT_FDCWD, path.encode(), flags | 0x800)


def _there(path: str) -> str:
    return call("faccessat", _AT_FDCWD, path.encode(), 0)


def _holds(text: str, *patterns: str) -> str:
    return " ".join(["holds", *(word.encode().hex() for word in (text, *patterns))])


def _writable(path: str) -> str:
    return f"writable {path.encode().hex()}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Marks:
    """What there is on the host, and in another machine, for an attempt to find."""

    #: a process of the host, and a word among its arguments
    pid: int
    word: str
    #: a word among the arguments of one of another machine's
    other_word: str
    #: names of listening sockets: abstract ones of the host and of another machine
    abstract: str
    other_abstract: str
    #: port on which the host listens at 127.0.0.1
    port: int
    #: key of what the host has by shmget(2), semget(2) and msgget(2)
    ipc: int
    #: names of files in /dev/shm: the host's, another machine's
    shared: str
    other_shared: str
    #: path of a listening socket in the host's files
    path: str
    #: path of a file of another machine's in its own layer, as the host has it
    file: str
    #: control group that another machine has, below the first one
    group: str
    #: device of the host's disk: major and minor
    disk: tuple[int, int]
    #: serial numbers of keys: the host's, another machine's; 0: there is none
    key: int
    other_key: int
    #: inode of a pidfd of the process
    pidfd: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One attempt, which one way or another must fail."""

    what: str
    calls: tuple[str, ...]
    #: errno of its refusal, by name; or what the program prints in place of one
    expected: frozenset[str]
    #: why nobody would be hurt if it succeeded
    because: str


_SEEN = "it only looks"
_NOTHING = "there is nothing of that name"


def _row(what: str, *calls: str, expected: str, because: str) -> Row:
    return Row(what=what, calls=calls, expected=frozenset(expected.split()), because=because)


def tables(marks: Marks) -> dict[str, list[Row]]:
    """All attempts, by what they are at."""
    return {
        "the clock": list(_on_the_clock()),
        "the kernel": list(_on_the_kernel()),
        "its log": list(_on_its_log()),
        "its programs": list(_on_its_programs()),
        "keys": list(_on_keys(marks)),
        "processes": list(_on_processes(marks)),
        "namespaces": list(_on_namespaces()),
        "files": list(_on_files(marks)),
        "devices": list(_on_devices(marks)),
        "sockets": list(_on_sockets(marks)),
        "shared memory": list(_on_shared_memory(marks)),
        "control groups": list(_on_control_groups(marks)),
        "settings": list(_on_settings()),
        "what the kernel knows": list(_on_secrets()),
    }


def names() -> dict[str, list[str]]:
    """What is attempted, by what it is at."""
    nobody = Marks(
        pid=0,
        word="",
        other_word="",
        abstract="",
        other_abstract="",
        port=0,
        ipc=0,
        shared="",
        other_shared="",
        path="",
        file="",
        group="",
        disk=(0, 0),
        key=0,
        other_key=0,
        pidfd=0,
    )
    return {name: [row.what for row in table] for name, table in tables(nobody).items()}


def text(table: Iterable[Row]) -> str:
    """What the program reads."""
    return "".join("\t".join(row.calls) + "\n" for row in table)


def problems(table: Iterable[Row], seen: Mapping[str, int | str]) -> dict[str, str]:
    """What was not refused as expected: attempt to what was seen."""
    found = {}
    for number, row in enumerate(table):
        value = seen[str(number)]
        name = errno.errorcode.get(value, "success") if isinstance(value, int) else value
        # a kernel that has no such call cannot be hurt by it
        if name not in row.expected | {"ENOSYS"}:
            found[row.what] = name
    return found


def _on_the_clock() -> Iterator[Row]:
    # of a tick that no clock has
    tick = struct.pack("=I84xq112x", 0x4000, 0)
    unarmed = "it is not armed"
    yield _row(
        "set clock and time zone",
        call("settimeofday", 0, 0),
        expected="EPERM",
        because="both are left out",
    )
    for name, words in (("clock_adjtime", [0]), ("adjtimex", [])):
        yield _row(
            f"tick as no clock does: {name}",
            call(name, *words, tick),
            expected="EPERM",
            because="such a tick is invalid",
        )
    for number, name in ((8, "real time"), (9, "time since the boot")):
        yield _row(
            f"wake the host from its sleep at a {name}",
            call("timerfd_create", number, 0),
            expected="EPERM",
            because=unarmed,
        )


def _on_the_kernel() -> Iterator[Row]:
    null = _opened("/dev/null")
    for what, calls, because in (
        ("load no bytes as a module", [call("init_module", 0, 0, b"")], "there are no bytes"),
        ("load no file as a module", [call("finit_module", -1, b"", 0)], "it is not open"),
        ("load null as a module", [null, call("finit_module", "r1", b"", 0)], "it is empty"),
        ("unload a module", [call("delete_module", b"no_such_module", 0o4000)], _NOTHING),
        ("swap to a file", [call("swapon", b"/no/such/file", 0)], _NOTHING),
        ("end swapping to a file", [call("swapoff", b"/no/such/file")], _NOTHING),
        ("account to a file", [call("acct", b"/no/such/file")], _NOTHING),
        ("another kernel", [call("kexec_load", 0, -1, 0, -1)], "no such flags, nor that many"),
        ("another kernel's file", [call("kexec_file_load", -1, -1, 0, 0, -1)], "no such flags"),
        ("all ports of the hardware", [call("iopl", 3)], "none is used"),
        ("a port of the hardware", [call("ioperm", 0x80, 1, 1)], "it is not used"),
        (
            "entropy",
            [_opened("/dev/urandom", _O_WRONLY), call("ioctl", "r1", 0x40045201, bytes(4))],
            "none is added",
        ),
        ("before others at the disk", [call("ioprio_set", 1, 0, 1 << 13 | 7)], "its process ends"),
        (
            "before others at the processor",
            [call("sched_setscheduler", 0, 1, struct.pack("=i", 1))],
            "its process ends",
        ),
        ("nicer to itself than others are", [call("setpriority", 0, 0, -20)], "its process ends"),
        (
            "more files than the host lets it open",
            [call("prlimit64", 0, 7, struct.pack("=QQ", 1024, 1 << 40), 0)],
            "its process ends",
        ),
    ):
        yield _row(what, *calls, expected="EPERM EACCES", because=because)
    # of a machine with an image the end is its own
    yield _row(
        "reboot", call("reboot", 0, 0, 0, 0), expected="EPERM EINVAL", because="no such number"
    )


def _on_its_log() -> Iterator[Row]:
    space = f"z{1 << 12}"
    for what, words in (
        ("read the kernel's log", [3, space, 1 << 12]),
        ("how much there is of the kernel's log", [10, 0, 0]),
        ("how much of it nobody has read", [9, 0, 0]),
    ):
        yield _row(what, call("syslog", *words), expected="EPERM", because=_SEEN)
    yield _row(
        "what of it is printed",
        call("syslog", 8, 0, 99),
        expected="EPERM",
        because="there is no such level",
    )
    yield _row(
        "the log of the kernel in /proc",
        _opened("/proc/kmsg"),
        expected="EPERM EACCES",
        because="nothing is read",
    )


def _on_its_programs() -> Iterator[Row]:
    """Tracing, and programs of BPF."""
    number = bytes(128)
    first = struct.pack("=I", 1) + bytes(124)
    for what, command, words in (
        ("which programs of BPF there are", 11, number),
        ("which maps of BPF there are", 12, number),
        ("which types of BPF there are", 23, number),
        ("which links of BPF there are", 31, number),
        ("a program of BPF's", 13, first),
        ("a map of BPF's", 14, first),
        ("types of BPF's", 19, first),
        ("a link of BPF's", 30, first),
    ):
        call_ = call("bpf", command, words, 128)
        yield _row(what, call_, expected="EPERM", because=_SEEN)
    for what, type_, config in (
        ("count what a processor does", 0, 0),
        ("trace what a processor does", 2, 1),
        ("count what the kernel does", 1, 3),
    ):
        # by the processor, and all processes on it
        event = struct.pack("=IIQ24xQ", type_, 128, config, 1) + bytes(80)
        yield _row(
            what,
            call("perf_event_open", event, -1, 0, -1, 0),
            expected="EACCES EPERM",
            because="it is not switched on",
        )
    for what, flags in (("decide about files that are opened", 4), ("any number of news", 0x10)):
        yield _row(
            what, call("fanotify_init", flags, 0), expected="EPERM", because="nothing is marked"
        )
    for kind in ("tracefs", "debugfs", "securityfs", "configfs", "pstore", "efivarfs", "devtmpfs"):
        yield _row(
            f"mount {kind}",
            call("unshare", _NEWNS, optional=True),
            call("mount", b"none", b"/mnt", kind.encode(), 0, 0),
            expected="EPERM ENODEV",
            because="the mount ends with its process",
        )


def _on_keys(marks: Marks) -> Iterator[Row]:
    """A key of the starter's, or of another machine whose ids are the same."""
    space = f"z{1 << 10}"
    for what, words in (
        ("the session's keys", [0, -3, 0]),
        ("its user's keys", [0, -4, 0]),
        ("keys that outlast sessions", [22, -1, -2]),
        ("what the host's key is called", [6, marks.key, space, 1 << 10]),
        ("what the host's key is", [11, marks.key, space, 1 << 10]),
        ("what another machine's key is called", [6, marks.other_key, space, 1 << 10]),
        ("what another machine's key is", [11, marks.other_key, space, 1 << 10]),
        ("another machine's key as one's own", [8, marks.other_key, -2]),
    ):
        yield _row(what, call("keyctl", *words), expected="ENOSYS", because=_SEEN)
    yield _row(
        "a key of one's own",
        call("add_key", b"user", b"carthage-test", b"x", 1, -2),
        expected="ENOSYS",
        because="it ends with its process",
    )
    yield _row(
        "somebody's key by its name",
        call("request_key", b"user", b"carthage-test-none", 0, 0),
        expected="ENOSYS",
        because=_NOTHING,
    )


def _on_processes(marks: Marks) -> Iterator[Row]:
    pid = marks.pid
    attempts: tuple[tuple[str, list[Word]], ...] = (
        ("signal", ["kill", pid, 0]),
        ("signal a thread of", ["tgkill", pid, pid, 0]),
        ("signal with a word", ["rt_sigqueueinfo", pid, 0, struct.pack("=iii116x", 0, 0, -1)]),
        ("hold", ["pidfd_open", pid, 0]),
        ("trace", ["ptrace", 0x4206, pid, 0, 0]),
        ("see the locks of", ["get_robust_list", pid, "z8", "z8"]),
        ("compare itself with", ["kcmp", pid, pid, 1, 0, 0]),
        ("see the limits of", ["prlimit64", pid, 7, 0, "z16"]),
        ("see the processors of", ["sched_getaffinity", pid, 8, "z8"]),
        ("give no processors to", ["sched_setaffinity", pid, 8, bytes(8)]),
        ("see the policy of", ["sched_getscheduler", pid]),
        ("see the group of", ["getpgid", pid]),
        ("see the session of", ["getsid", pid]),
        ("regroup", ["setpgid", pid, pid]),
        ("see how nice is", ["getpriority", 0, pid]),
        ("be as nice to", ["setpriority", 0, pid, 0]),
        ("see the turn at the disk of", ["ioprio_get", 1, pid]),
        ("see the capabilities of", ["capget", struct.pack("=Ii", 0x20080522, pid), "z24"]),
        ("move no memory of", ["migrate_pages", pid, 8, bytes(8), bytes(8)]),
        ("move no page of", ["move_pages", pid, 0, 0, 0, 0, 0]),
        ("wait for", ["waitid", 1, pid, "z128", 5, 0]),
    )
    for what, (name, *rest) in attempts:
        assert isinstance(name, str)
        yield _row(
            f"{what} a process of the host",
            call(name, *rest),
            expected="ESRCH ECHILD",
            because=_SEEN,
        )
    for whose, word in (("the host", marks.word), ("another machine", marks.other_word)):
        yield _row(
            f"a process of {whose} among all",
            _holds(word, "/proc/[0-9]*/cmdline", "/dev/.carthage/proc/[0-9]*/cmdline"),
            expected="nothing",
            because=_SEEN,
        )
    handle = struct.pack("=IiQ", 8, 0xF2, marks.pidfd)
    yield _row(
        "hold a process of the host by its handle",
        call("open_by_handle_at", -10002, handle, 0),
        expected=_NO_HANDLE,
        because=_SEEN,
    )


#: refused; or of no kernel before 6.18, or of no file system that has such
_NO_HANDLE = "EPERM EBADF ESTALE EOPNOTSUPP"


def _on_namespaces() -> Iterator[Row]:
    for kind in ("user", "pid"):
        yield _row(
            f"the {kind} namespace around its own",
            _opened(f"/proc/self/ns/{kind}"),
            call("ioctl", "r1", 0xB702, 0),
            expected="EPERM",
            because=_SEEN,
        )
    for what, number in (("next", 0x8010B70B), ("previous", 0x8010B70C)):
        yield _row(
            f"the mount namespace that is {what} to its own",
            _opened("/proc/self/ns/mnt"),
            call("ioctl", "r1", number, "z16"),
            expected="ENOTTY ENOENT EPERM",
            because=_SEEN,
        )
    # the first ones of a kernel have these numbers
    names = ("ipc", "uts", "user", "pid", "cgroup", "time", "net", "mnt")
    for number, kind in enumerate(names, 1):
        yield _row(
            f"the host's {kind} namespace by its handle",
            call("open_by_handle_at", -10003, struct.pack("=IiQII", 16, 0xF1, number, 0, 0), 0),
            expected=_NO_HANDLE,
            because=_SEEN,
        )


def _on_files(marks: Marks) -> Iterator[Row]:
    # a folder of the host's, and a file in it, by their numbers; see open_by_handle_at(2)
    yield _row(
        "the host's files by a handle",
        _opened("/"),
        call("open_by_handle_at", "r1", struct.pack("=IiII", 8, 1, 2, 0), 0),
        expected="EPERM",
        because=_SEEN,
    )
    yield _row(
        "another machine's files where the host keeps them",
        _there(marks.file),
        expected="ENOENT",
        because=_SEEN,
    )
    for kind in ("ext4", "xfs", "btrfs", "vfat", "iso9660", "squashfs"):
        yield _row(
            f"mount a disk with {kind}",
            call("unshare", _NEWNS, optional=True),
            call("mount", b"/dev/no-such-disk", b"/mnt", kind.encode(), 1, 0),
            expected="EPERM ENODEV",
            because="there is no such disk",
        )
    for what, number in (("thaw", 0xC0045878), ("trim", 0xC0185879)):
        yield _row(
            f"{what} the host's file system",
            _opened("/"),
            call("ioctl", "r1", number, bytes(24)),
            expected="EPERM ENOTTY EOPNOTSUPP",
            because="it is not frozen, and of nothing nothing is trimmed",
        )


def _on_devices(marks: Marks) -> Iterator[Row]:
    for what, kind, major, minor in (
        ("the memory", stat.S_IFCHR, 1, 1),
        ("the ports", stat.S_IFCHR, 1, 4),
        ("the kernel's log", stat.S_IFCHR, 1, 11),
        ("a terminal", stat.S_IFCHR, 4, 0),
        ("the hardware's clock", stat.S_IFCHR, 254, 0),
        ("a loop", stat.S_IFBLK, 7, 0),
        ("the host's disk", stat.S_IFBLK, *marks.disk),
    ):
        path = b"/tmp/carthage-test-node"
        yield _row(
            f"a node of {what}",
            call("mknodat", _AT_FDCWD, path, kind | 0o600, _device(major, minor)),
            expected="EPERM",
            because="it is not opened",
        )
    for name in (
        "mem kmem port vda sda nvme0n1 loop-control loop0 btrfs-control rtc0 snapshot watchdog "
        "cpu_dma_latency userfaultfd vga_arbiter uinput nbd0 zram0 sg0 tty0 ttyS0 vcs hwrng "
        "autofs nvram mapper/control tpm0"
    ).split():
        yield _row(
            f"/dev/{name}",
            call("faccessat", _AT_FDCWD, f"/dev/{name}".encode(), 6),
            expected="ENOENT EACCES",
            because="it is asked whether it could be opened",
        )


def _device(major: int, minor: int) -> int:
    return os.makedev(major, minor)


def _on_sockets(marks: Marks) -> Iterator[Row]:
    def connected(family: int, address: bytes) -> tuple[str, str]:
        asked = call("socket", family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK, 0)
        return asked, call("connect", "r1", address, len(address))

    unix = struct.pack("=H", socket.AF_UNIX)
    for whose, name in (("host", marks.abstract), ("other machine", marks.other_abstract)):
        yield _row(
            f"an abstract socket of the {whose}",
            *connected(socket.AF_UNIX, unix + b"\0" + name.encode()),
            expected="ECONNREFUSED",
            because="nothing is said",
        )
        yield _row(
            f"an abstract socket of the {whose} among all",
            _holds(name, "/proc/net/unix", "/proc/[0-9]*/net/unix"),
            expected="nothing",
            because=_SEEN,
        )
    yield _row(
        "a port of the host",
        call("socket", socket.AF_INET, socket.SOCK_STREAM, 0),
        call(
            "connect",
            "r1",
            struct.pack("=H", 2) + struct.pack(">H4B8x", marks.port, 127, 0, 0, 1),
            16,
        ),
        expected="ECONNREFUSED",
        because="nothing is said",
    )
    yield _row(
        "a port of the host among all",
        _holds(f":{marks.port:04X} ", "/proc/net/tcp", "/proc/[0-9]*/net/tcp"),
        expected="nothing",
        because=_SEEN,
    )
    yield _row(
        "a socket to the hypervisor",
        call("socket", socket.AF_VSOCK, socket.SOCK_STREAM, 0),
        expected="EAFNOSUPPORT",
        because="it is not connected",
    )
    yield _row(
        "a socket in the host's files",
        *connected(socket.AF_UNIX, unix + marks.path.encode() + bytes(1)),
        expected="ENOENT ECONNREFUSED",
        because="nothing is said",
    )


def _on_shared_memory(marks: Marks) -> Iterator[Row]:
    for what, name, words in (
        ("memory", "shmget", [0, 0]),
        ("semaphores", "semget", [0, 0]),
        ("messages", "msgget", [0]),
    ):
        yield _row(
            f"{what} of the host by its key",
            call(name, marks.ipc, *words),
            expected="ENOENT",
            because=_SEEN,
        )
    yield _row(
        "messages of the host by their name",
        call("mq_open", marks.shared.encode(), 0, 0, 0),
        expected="ENOENT",
        because=_SEEN,
    )
    for whose, name in (("host", marks.shared), ("other machine", marks.other_shared)):
        yield _row(
            f"memory of the {whose} by its name",
            _there(f"/dev/shm/{name}"),
            expected="ENOENT",
            because=_SEEN,
        )


def _on_control_groups(marks: Marks) -> Iterator[Row]:
    for controller in ("memory", "pids", "cpu", "devices", "freezer", "blkio", "cpuset"):
        mounted = (
            call("unshare", _NEWUSER | _NEWNS | _NEWCGROUP, optional=True),
            call("unshare", _NEWUSER | _NEWNS, optional=True),
            call("mount", b"none", b"/mnt", b"cgroup", 0, controller.encode()),
        )
        yield _row(
            f"what is run when a group is empty, of {controller}",
            *mounted,
            _opened("/mnt/release_agent", _O_WRONLY),
            expected="EPERM EBUSY ENODEV ENOENT EACCES",
            because="nothing is written",
        )
        yield _row(
            f"groups of others, of {controller}",
            *mounted,
            _there(f"/mnt{marks.group}"),
            expected="EPERM EBUSY ENODEV ENOENT",
            because=_SEEN,
        )
    for path in ("/sys/fs/cgroup/release_agent", "/sys/fs/cgroup/systemd/release_agent"):
        yield _row(
            f"write {path}",
            _opened(path, _O_WRONLY),
            expected="ENOENT EROFS EACCES",
            because="nothing is written",
        )
    for path in ("", "/systemd", "/unified"):
        yield _row(
            f"a group above its own in /sys/fs/cgroup{path}",
            _there(f"/sys/fs/cgroup{path}{marks.group}"),
            expected="ENOENT",
            because=_SEEN,
        )


_SETTINGS = """
/proc/sys/kernel/core_pattern /proc/sys/kernel/modprobe /proc/sys/kernel/panic
/proc/sys/kernel/sysrq /proc/sys/kernel/printk /proc/sys/kernel/randomize_va_space
/proc/sys/kernel/kptr_restrict /proc/sys/kernel/dmesg_restrict
/proc/sys/kernel/perf_event_paranoid /proc/sys/kernel/unprivileged_bpf_disabled
/proc/sys/kernel/threads-max /proc/sys/kernel/poweroff_cmd
/proc/sys/kernel/ctrl-alt-del /proc/sys/kernel/keys/maxkeys
/proc/sys/vm/swappiness /proc/sys/vm/drop_caches /proc/sys/vm/overcommit_memory
/proc/sys/vm/compact_memory /proc/sys/vm/mmap_min_addr /proc/sys/vm/panic_on_oom
/proc/sys/vm/nr_hugepages /proc/sys/fs/file-max /proc/sys/fs/suid_dumpable
/proc/sys/fs/protected_symlinks /proc/sys/fs/pipe-max-size /proc/sys/fs/nr_open
/proc/sys/fs/aio-max-nr /proc/sys/fs/inotify/max_user_watches
/proc/sysrq-trigger /proc/irq/default_smp_affinity /proc/mtrr
/sys/kernel/uevent_helper /sys/kernel/mm/transparent_hugepage/enabled /sys/kernel/mm/ksm/run
/sys/kernel/profiling /sys/kernel/reboot/mode /sys/power/state
/sys/module/kernel/parameters/panic /sys/devices/system/cpu/cpu1/online
/sys/devices/system/cpu/microcode/reload
/sys/bus/platform/drivers_probe /sys/class/block/vda/queue/scheduler
""".split()


def _on_settings() -> Iterator[Row]:
    for path in _SETTINGS:
        yield _row(
            f"write {path}",
            _writable(path),
            expected="EROFS EACCES EPERM ENOENT copy",
            because="it is opened, and nothing is written",
        )
    for path in ("/proc/sys/vm/swappiness", "/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger"):
        yield _row(
            f"write {path} where nothing is mounted over it",
            _writable(f"/dev/.carthage{path}"),
            expected="EROFS EACCES EPERM ENOENT",
            because="it is opened, and nothing is written",
        )
    for top in ("/proc", "/sys"):
        for around in ("", "/dev/.carthage"):
            words = " ".join(f"{around}{word}".encode().hex() for word in (top, *_OWN))
            yield _row(
                f"write anything else in {around}{top}",
                f"settings {words}",
                expected="nothing",
                because="it is asked whether it could be opened",
            )


#: what is written in /proc and /sys by a machine for itself
_OWN = """
/proc/sys/net/ /proc/sys/user/ /proc/sys/fs/mqueue/ /proc/sys/kernel/msg /proc/sys/kernel/sem
/proc/sys/kernel/shm /proc/sys/kernel/auto_msgmni /proc/sys/kernel/ns_last_pid
/proc/sys/kernel/pid_max
/proc/pressure/ /proc/sysvipc/ /sys/devices/virtual/net/
""".split()


def _on_secrets() -> Iterator[Row]:
    for name in (
        "kcore kpagecount kpageflags kpagecgroup slabinfo vmallocinfo timer_list vmcore "
        "sched_debug latency_stats"
    ).split():
        yield _row(
            f"read /proc/{name}",
            _opened(f"/proc/{name}"),
            expected="EPERM EACCES ENOENT",
            because="nothing is read",
        )
