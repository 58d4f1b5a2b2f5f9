"""What of the host a program in a station does not find: sockets of services, and interfaces.

``/run`` is rebuilt in a file system of the program's own: folders without sockets are shown as they
are, others are made again with what is in them but their sockets. So one that a service makes anew
does not appear, either. A socket at another place is covered.
"""

from __future__ import annotations

import contextlib
import os
import stat
from typing import TYPE_CHECKING

from pytest_carthage.fabric import syscalls as sys_

if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = ["hide", "listening", "own_settings", "show_network"]

_RUN = "/run"
#: what ssh(1) reads only where root or the user owns it; to whom root is not mapped, it is nobody's
_OF_ROOT = ("/etc/ssh/ssh_config.d", "/etc/crypto-policies/back-ends")
#: linux/net.h: a socket that waits for connections; and the type of those that need none
_ACCEPTS, _DATAGRAM = 0x10000, 2

#: what a folder has: name to the same of a folder that has sockets; None: it is shown as it is
Contents = dict[str, "Contents | None"]


def listening() -> list[str]:
    """Paths of the sockets that somebody listens on, in the network that the caller is in."""
    paths = []
    with open("/proc/net/unix", errors="surrogateescape") as file:
        for line in file:
            fields = line.rstrip("\n").split(None, 7)
            if len(fields) < 8 or not fields[7].startswith("/"):
                continue
            if int(fields[3], 16) & _ACCEPTS or int(fields[4], 16) == _DATAGRAM:
                paths.append(fields[7])
    return paths


def hide(sockets: Collection[str], *, keep: Collection[str]) -> None:
    """Hide sockets in the mount namespace that the caller is in, which is its own.

    :param sockets: those outside of ``/run`` that are hidden.
    :param keep: sockets, and folders of sockets, that stay.
    :raises OSError: the kernel refused.
    """
    kept = {os.path.realpath(path) for path in keep}
    run = os.path.realpath(_RUN)
    contents = _contents(run, kept)
    if contents is not None:
        _rebuild(run, contents)
    for path in dict.fromkeys(map(os.path.realpath, sockets)):
        if path.startswith(f"{run}/") or _is_kept(path, kept):
            continue
        try:
            if not stat.S_ISSOCK(os.lstat(path).st_mode):
                continue
        except OSError:
            continue  # of another root, or out of reach
        try:
            # whoever connects to it is refused
            sys_.mount("/dev/null", path, None, sys_.MS_BIND)
        except FileNotFoundError:
            continue  # it is gone by now


def _is_kept(path: str, kept: Collection[str]) -> bool:
    return any(path == one or path.startswith(f"{one}/") for one in kept)


def _contents(folder: str, kept: Collection[str]) -> Contents | None:
    """What of a folder is to be seen; None: all of it, since there is no socket to hide."""
    contents: Contents = {}
    hides = False
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if _is_kept(entry.path, kept):
                    contents[entry.name] = None
                elif entry.is_dir(follow_symlinks=False):
                    contents[entry.name] = inner = _contents(entry.path, kept)
                    hides = hides or inner is not None
                elif _is_socket(entry):
                    hides = True
                else:
                    contents[entry.name] = None
    except OSError:
        return {}  # who may not look may still connect; or its file system is out of order
    return contents if hides else None


def _is_socket(entry: os.DirEntry[str]) -> bool:
    if entry.is_file(follow_symlinks=False) or entry.is_symlink():  # which ask nobody
        return False
    return stat.S_ISSOCK(entry.stat().st_mode)


def _rebuild(folder: str, contents: Contents) -> None:
    """Put a folder of the caller's own in place of one, with what is to be seen of it."""
    old = os.open(folder, os.O_PATH | os.O_CLOEXEC)
    try:
        about = os.fstat(old)
        sys_.mount("tmpfs", folder, "tmpfs", sys_.MS_NOSUID | sys_.MS_NODEV)
        _resemble(folder, about)
        _fill(folder, f"/proc/self/fd/{old}", contents)
    finally:
        os.close(old)


def _fill(folder: str, old: str, contents: Contents) -> None:
    for name, inner in contents.items():
        source, target = f"{old}/{name}", f"{folder}/{name}"
        try:
            about = os.lstat(source)
            if inner is not None:
                os.mkdir(target)
                _fill(target, source, inner)
                _resemble(target, about)
            elif stat.S_ISLNK(about.st_mode):
                os.symlink(os.readlink(source), target)
            else:
                if stat.S_ISDIR(about.st_mode):
                    os.mkdir(target)
                else:
                    os.close(os.open(target, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC))
                sys_.mount(source, target, None, sys_.MS_BIND | sys_.MS_REC)
        except OSError:
            continue  # it went away meanwhile, or was out of reach or order before


def _resemble(path: str, about: os.stat_result) -> None:
    os.chmod(path, stat.S_IMODE(about.st_mode))
    try:
        os.chown(path, about.st_uid, about.st_gid)
    except OSError:
        pass  # an ordinary user's are the user's


def own_settings() -> None:
    """Show an ordinary user copies, which he owns, of what programs insist that root or he owns.

    A folder that cannot be replaced stays as it is.
    """
    for folder in _OF_ROOT:
        with contextlib.suppress(OSError):
            files = {entry.name: _read(entry.path) for entry in os.scandir(folder)}
            flags = sys_.MS_NOSUID | sys_.MS_NODEV
            sys_.mount("tmpfs", folder, "tmpfs", flags, "mode=0755")
            for name, content in files.items():
                if content is not None:
                    with open(f"{folder}/{name}", "wb") as file:
                        file.write(content)
                    os.chmod(file.name, 0o644)


def _read(path: str) -> bytes | None:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return None  # a folder, or out of reach anyway


def show_network() -> None:
    """Have ``/sys`` tell of the interfaces of the network that the caller is in.

    What else is mounted there stays. Where the kernel refuses it, all stays as it is.
    """
    try:
        below = _mounted_below("/sys")
    except OSError:
        return
    try:
        sys_.mount("sysfs", "/sys", "sysfs", sys_.MS_NOSUID | sys_.MS_NODEV | sys_.MS_NOEXEC)
        for place, fd in below.items():
            with contextlib.suppress(OSError):  # out of order, or nowhere in what is new
                sys_.mount(f"/proc/self/fd/{fd}", place, None, sys_.MS_BIND | sys_.MS_REC)
    except OSError:
        pass
    finally:
        for fd in below.values():
            os.close(fd)


def _mounted_below(folder: str) -> dict[str, int]:
    """Places below a folder where something is mounted, and a descriptor of that."""
    below: dict[str, int] = {}
    with open("/proc/self/mountinfo", errors="surrogateescape") as file:
        places = [line.split()[4] for line in file]
    for place in sorted(places):
        if place.startswith(f"{folder}/") and not _is_kept(place, below):
            try:
                below[place] = os.open(place, os.O_PATH | os.O_CLOEXEC)
            except OSError:
                pass  # out of reach
    return below
