"""Settings of the kernel that belong to the host, as a machine has them: private and inert.

What belongs to the machine (``net.*``, System V memory, whatever the kernel lets its root write)
is the kernel's own file. Of all else it has a copy, which takes what is written and gives it back:
what a playbook sets is set as far as it can see, and nothing comes of it. :func:`changed` tells.
"""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Mapping
from typing import NamedTuple

from pytest_carthage.fabric import syscalls as sys_

#: a ``/proc`` of the machine that nothing is mounted over
PRISTINE = "/dev/.carthage/proc"
_SYSCTLS = "/proc/sys"
#: a copy that has an effect, see :mod:`.naming`
HOSTNAME = "/proc/sys/kernel/hostname"
#: folders there that are the kernel's: the machine's own, and what is different each time
_LIVE_FOLDERS = tuple(
    f"{_SYSCTLS}/{name}" for name in ("net", "user", "fs/mqueue", "kernel/random")
)
#: files that are the kernel's, though nobody may write to them
_LIVE = frozenset({"domainname", "file-nr"})
#: of what the kernel lets a machine's root write, what only checkpoints are made with
_RARE = frozenset({"auto_msgmni", "msg_next_id", "ns_last_pid", "sem_next_id", "shm_next_id"})
_W = os.W_OK
#: what systemd sets by itself whenever it boots: nobody has asked for that
_OF_INIT = {"fs.file-max": "9223372036854775807", "fs.nr_open": "2147483640"}
#: settings that are no sysctls: a folder, which is shown as a copy
_FOLDERS = ("/sys/kernel/mm/transparent_hugepage", "/sys/kernel/mm/ksm")
#: folders of the latter that are for pages of one size
_SIZES = "hugepages-"
_DATA = sys_.MS_NOSUID | sys_.MS_NODEV | sys_.MS_NOEXEC
_MOST_BYTES = 1 << 14


class _Setting(NamedTuple):
    mode: int
    text: str


#: path to what it is on the host, once it was looked up
_found: dict[str, _Setting] = {}


def look_up() -> Mapping[str, _Setting]:
    """What the host's settings are; kept for processes that are forked later."""
    if not _found:
        for top in (_SYSCTLS, *_FOLDERS):
            for folder, folders, files in os.walk(top):
                folders[:] = [name for name in folders if f"{folder}/{name}" not in _LIVE_FOLDERS]
                for name in files:
                    path = f"{folder}/{name}"
                    mode = stat.S_IMODE(os.lstat(path).st_mode)
                    _found[path] = _Setting(mode, _read(path) if mode & 0o444 else "")
    return _found


def _read(path: str) -> str:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            return os.read(fd, _MOST_BYTES).decode(errors="replace")
        finally:
            os.close(fd)
    except OSError:
        return ""


def cover(root: str) -> None:
    """Show private settings in a machine's ``/proc/sys`` and ``/sys``.

    :param root: of the machine, whose ``/proc`` and ``/sys`` are mounted.
    :raises OSError: the kernel refused, named in the message.
    """
    for top in (_SYSCTLS, *_FOLDERS):
        if os.path.isdir(root + top):
            sys_.mount("tmpfs", root + top, "tmpfs", _DATA, "mode=0755")
    made: set[str] = {_SYSCTLS, *_FOLDERS}
    for path, (mode, text) in look_up().items():
        folder, name = os.path.split(path)
        if folder not in made:
            os.makedirs(root + folder, exist_ok=True)
            made.add(folder)
        kernels = root + path.replace("/proc", PRISTINE, 1)
        is_live = name in _LIVE or (mode & 0o222 and name not in _RARE and os.access(kernels, _W))
        if path == HOSTNAME:
            text = f"{socket.gethostname()}\n"
        _write(root + path, "" if is_live else text, mode)
        if is_live and path.startswith(_SYSCTLS):
            sys_.mount(kernels, root + path, None, sys_.MS_BIND)
    for path in _LIVE_FOLDERS:
        source = root + path.replace("/proc", PRISTINE, 1)
        if os.path.isdir(source):
            os.mkdir(root + path)
            sys_.mount(source, root + path, None, sys_.MS_BIND)


def _write(path: str, text: str, mode: int) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        os.write(fd, text.encode())
        os.utime(fd, (0, 0))
    finally:
        os.close(fd)


def has_copies() -> bool:
    """Whether the machine that the caller is in has copies of the host's settings."""
    return os.stat(_SYSCTLS).st_dev != os.stat("/proc").st_dev


def changed() -> dict[str, str]:
    """What the machine that the caller is in has set without effect: name, as sysctl(8) has it,
    or path, to value."""
    found: dict[str, str] = {}
    if not has_copies():
        return found
    kernels = os.stat(PRISTINE).st_dev
    for path, (mode, text) in look_up().items():
        if not mode & 0o222 or path == HOSTNAME:
            continue
        try:
            info = os.lstat(path)
            if info.st_dev == kernels or info.st_mtime == 0:
                continue
        except OSError:
            continue
        value = _read(path).split("\n")[0].strip()
        if value.split() != text.split():
            is_sysctl = path.startswith(_SYSCTLS)
            name = path.removeprefix(f"{_SYSCTLS}/").replace("/", ".") if is_sysctl else path
            if _OF_INIT.get(name) != value:
                found[name] = value
    return found
