"""Attempts of a machine's root at its host, none of which could change a thing if it succeeded.

Each is a call that the kernel refuses for want of a right *before* it looks at what it is called
with, and what it is called with here does nothing. Files are asked for, not opened. The program
prints a JSON object: attempt to the errno of its refusal, 0 if it was not refused.
"""

from __future__ import annotations

import ctypes
import json
import os
import platform
import stat
import sys
from pathlib import Path

#: numbers of system calls: of x86-64, and of the kernel's generic table
_NUMBERS = {
    "settimeofday": (164, 170),
    "swapoff": (168, 225),
    "reboot": (169, 142),
    "init_module": (175, 105),
    "delete_module": (176, 106),
    "acct": (163, 89),
    "ioprio_set": (251, 30),
}
#: what is written in /proc and /sys by a machine for itself
_OWN = ("/proc/sys/net/", "/proc/pressure/", "/proc/sysvipc/", "/sys/devices/virtual/net/")

_libc = ctypes.CDLL(None, use_errno=True)


def _call(name: str, *values: int | bytes) -> int:
    """Errno of a system call, 0 for success."""
    number = _NUMBERS[name][platform.machine() != "x86_64"]
    words = [ctypes.c_char_p(v) if isinstance(v, bytes) else ctypes.c_long(v) for v in values]
    result = _libc.syscall(ctypes.c_long(number), *words)
    return ctypes.get_errno() if result < 0 else 0


def calls() -> dict[str, int]:
    """Harmless forms of calls that change a host."""
    return {
        "set the clock to nothing": _call("settimeofday", 0, 0),
        "turn off a swap that is not there": _call("swapoff", b"/no/such/swap"),
        "reboot by the wrong number": _call("reboot", 0, 0, 0, 0),
        "load a module of no bytes": _call("init_module", 0, 0, b""),
        "unload a module that is not there": _call("delete_module", b"no_such_module", 0o4000),
        "account to a file that is not there": _call("acct", b"/no/such/file"),
        "be first at the disk": _call("ioprio_set", 1, 0, 1 << 13 | 7),
    }


def node(kind: int, path: str) -> int:
    """Errno of making a node of the null device."""
    try:
        os.mknod(path, kind | 0o600, os.makedev(1, 3))
    except OSError as error:
        return error.errno or -1
    Path(path).unlink()
    return 0


def writable(top: str) -> list[str]:
    """Files below a folder of settings that this process could open for writing."""
    result = []
    for folder, names, files in os.walk(top):
        names[:] = [name for name in names if not (folder == "/proc" and name.isdigit())]
        for name in files:
            path = f"{folder}/{name}"
            if path.startswith(_OWN) or Path(path).is_symlink():
                continue
            mode = os.lstat(path).st_mode
            # to root all files of a file system that is not read-only look writable
            if stat.S_ISREG(mode) and mode & 0o222 and os.access(path, os.W_OK):
                result.append(path)
    return sorted(result)


def devices(top: str) -> list[str]:
    """Device nodes below a folder, in its own file system and those mounted there."""
    result = []
    for folder, _, files in os.walk(top):
        for name in files:
            mode = os.lstat(f"{folder}/{name}").st_mode
            if stat.S_ISBLK(mode) or stat.S_ISCHR(mode):
                result.append(f"{folder}/{name}")
    return sorted(result)


def capabilities() -> dict[str, int]:
    """The capability sets of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return {line[:6]: int(line[7:], 16) for line in lines if line.startswith("Cap")}


if __name__ == "__main__":
    print(
        json.dumps(
            {
                "capabilities": capabilities(),
                "calls": calls(),
                "node": node(stat.S_IFCHR, sys.argv[1] + "/node"),
                "writable": writable("/proc") + writable("/sys"),
                "devices": devices("/dev"),
            }
        )
    )
