"""The file system of a machine whose root is the host's own, with private parts.

Everything is read-only, except that the folders in :data:`PRIVATE` are the host's with a layer of
the machine's above, ``/tmp`` is its own, and ``/run`` is new and empty at each start. A machine
that root built is root to the host's settings and devices, too: they are read-only, or not there. A
user namespace made inside inherits these mounts locked, see mount_namespaces(7). Sources: mount(8),
the kernel's overlayfs document (``userxattr`` is what a user namespace is allowed to use).
"""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

from pytest_carthage.fabric import devices, names, roots, uppers
from pytest_carthage.fabric import syscalls as sys_

if TYPE_CHECKING:
    from pytest_carthage.fabric.shares import Shares

#: host folders that a machine may write to without the host noticing
PRIVATE = ("/etc", "/var", "/home", "/root", "/srv", "/opt", "/usr/local", "/mnt")
#: of these, what a machine cannot do without; the others may stay read-only for a plain user
_NEEDED = ("/etc", "/var")
#: how deep folders are mirrored for a user who may not write to the host's own
_DEPTH = 6
_KERNEL = sys_.MS_NOSUID | sys_.MS_NODEV | sys_.MS_NOEXEC
#: folders of /proc that show the caller's namespaces, or take what concerns nobody else
_OWN = ("sys", "sysvipc", "pressure")
#: what else there is, once it was looked up
_settings: list[str] = []
#: and what is there for root alone
_secrets: list[str] = []
#: folders of the host's that are no machine's business, as they were named
_hidden: list[str] = []
#: attributes of a machine's own interfaces
_INTERFACES = "/sys/devices/virtual/net"


def hide(folder: str) -> None:
    """Have machines find nothing in a folder; for processes that are forked later."""
    _hidden.append(folder)


def prepare_template(target: str) -> None:
    """Make the layer that lets an unprivileged user write where root owns the folders below.

    In a user namespace files of other owners cannot be copied up. So folders of ``/etc`` and
    ``/var`` are mirrored, and the readable files of ``/etc`` copied, all owned by the user.
    """
    for top in PRIVATE:
        if os.path.isdir(top) and not os.path.islink(top):
            deep = top in ("/etc", "/var")
            _mirror(top, target + top, _DEPTH if deep else 0, files=top == "/etc")


def _mirror(source: str, target: str, depth: int, *, files: bool) -> None:
    import shutil  # only where there is no privilege

    os.makedirs(target, exist_ok=True)
    if depth == 0:
        return
    try:
        entries = list(os.scandir(source))
    except PermissionError:
        return
    for entry in entries:
        path = f"{target}/{entry.name}"
        if entry.is_symlink():
            os.symlink(os.readlink(entry.path), path)
        elif entry.is_dir():
            if not entry.name.startswith("containers") and os.access(entry.path, os.R_OK | os.X_OK):
                _mirror(entry.path, path, depth - 1, files=files)
        elif files and entry.is_file() and os.access(entry.path, os.R_OK):
            shutil.copyfile(entry.path, path)
            shutil.copymode(entry.path, path)


def enter(
    *,
    machine: str,
    is_new: bool,
    hostname: str,
    hosts: str,
    resolv: str,
    template: str | None,
    memory_mib: int | None,
    own: Shares | None,
) -> None:
    """Give the calling process, alone in new mount and PID namespaces, its file system.

    :param machine: its name, by which it finds what it wrote before it was stopped.
    :param is_new: it has never been started: the texts are written once, and its authors' then.
    :param memory_mib: what it may use of memory; None: all there is.
    :param own: tells of what it has of the host, and is mounted; None: that has all.
    :raises OSError: the kernel refused a mount, named in the message.
    """
    # a machine must not see the host's mounts change, nor the other way round
    sys_.mount("none", "/", None, sys_.MS_REC | sys_.MS_PRIVATE)
    roots.leave()
    if template is None:
        sys_.set_mount("/", add=sys_.ATTR_RDONLY | sys_.ATTR_NODEV, deep=True)
    else:  # a user namespace may write neither settings nor devices of the host's root anyway
        sys_.set_mount("/", add=sys_.ATTR_RDONLY, deep=True)
    sys_.mount("proc", "/proc", "proc", _KERNEL)
    try:
        sys_.mount("sysfs", "/sys", "sysfs", _KERNEL)
    except OSError:
        pass  # a nested container may show only the outer /sys; it stays, read-only
    else:
        if template is None:
            sys_.mount(_INTERFACES, _INTERFACES, None, sys_.MS_BIND)
            sys_.set_mount("/sys", add=sys_.ATTR_RDONLY)
    if template is None:
        protect_host_settings()
    private = [top for top in PRIVATE if os.path.isdir(top) and not os.path.islink(top)]
    sys_.mount("tmpfs", "/tmp", "tmpfs", sys_.MS_NOSUID | sys_.MS_NODEV, "mode=0755")
    if own is not None:
        own.show()
    if template is None:
        os.mkdir("/tmp/dev")
        nodes = devices.STANDARD + devices.OF_MACHINES
        devices.furnish("/tmp/dev", nodes, memory_mib=memory_mib)
        sys_.mount("/tmp/dev", "/dev", None, sys_.MS_MOVE)
    written = uppers.folder_of(machine)
    sys_.set_mount(written, clear=sys_.ATTR_RDONLY)
    # as long as somebody has a file of its former life open, the layers are in use there
    extra = ",index=off" + (",userxattr" if template is not None else "")
    for top in private:
        upper, work = (f"{written}/{kind}{top.replace('/', '-')}" for kind in ("upper", "work"))
        lower = top if template is None else f"{template}{top}:{top}"
        if not os.path.isdir(upper):
            _make_upper(upper, top, is_owned=template is None)
            os.mkdir(work)
        layers = f"upperdir={upper},workdir={work}{extra}"
        try:
            sys_.mount("overlay", top, "overlay", 0, f"lowerdir={lower},{layers}")
        except OSError as error:
            # a user namespace may not look below what is mounted somewhere under a folder
            if error.errno != errno.EINVAL or (template is None and top in _NEEDED):
                raise
            if top in _NEEDED:
                sys_.mount("overlay", top, "overlay", 0, f"lowerdir={template}{top},{layers}")
    if is_new:
        _write_new("/etc/hostname", hostname + "\n")
        _write_new("/etc/hosts", names.initial(hosts))
        _write_new("/etc/resolv.conf", resolv)
    sys_.umount("/tmp")
    if not os.path.isdir(f"{written}/tmp"):
        os.mkdir(f"{written}/tmp")
        os.chmod(f"{written}/tmp", 0o1777)
    sys_.mount(f"{written}/tmp", "/tmp", None, sys_.MS_BIND)
    uppers.leave()
    sys_.mount("tmpfs", "/run", "tmpfs", sys_.MS_NOSUID | sys_.MS_NODEV, "mode=0755")
    os.makedirs("/run/lock", exist_ok=True)
    for folder in _hidden:
        if os.path.isdir(folder):
            sys_.mount("tmpfs", folder, "tmpfs", sys_.MS_NOSUID | sys_.MS_NODEV, "mode=0700")
    if template is not None:
        _furnish_devices()


def _make_upper(upper: str, top: str, *, is_owned: bool) -> None:
    """Make the folder for what is written below a folder of the host's, and looks as that does."""
    os.mkdir(upper)
    info = os.stat(top)
    os.chmod(upper, stat.S_IMODE(info.st_mode))
    if is_owned:
        os.chown(upper, info.st_uid, info.st_gid)


def _furnish_devices() -> None:
    """Put terminals and memory of a machine's own over those in the host's ``/dev``."""
    devices.mount_shared("/dev/shm", None)  # an ordinary user has no limits to give
    try:
        sys_.mount(
            "devpts",
            "/dev/pts",
            "devpts",
            sys_.MS_NOSUID | sys_.MS_NOEXEC,
            "newinstance,ptmxmode=0666,mode=0620",
        )
        sys_.mount("/dev/pts/ptmx", "/dev/ptmx", None, sys_.MS_BIND)
    except OSError:
        pass  # the host's own pseudo-terminals serve, where the kernel allows no new instance


def protect_host_settings(root: str = "", *, network: bool = False) -> None:
    """Make all settings below /proc read-only, except for what belongs to the caller's network.

    What only root may read there tells of the host's memory: it is not there.

    :param root: where /proc is below.
    :param network: those of the network, too, as it is the host's.
    """
    for name in list_settings():
        path = f"{root}/proc/{name}"
        sys_.mount(path, path, None, sys_.MS_BIND)
        if name == "sys" and not network:
            sys_.mount(f"{path}/net", f"{path}/net", None, sys_.MS_BIND)
        sys_.set_mount(path, add=sys_.ATTR_RDONLY)
    for name in _secrets:
        sys_.mount("/dev/null", f"{root}/proc/{name}", None, sys_.MS_BIND)


def list_settings() -> list[str]:
    """What /proc shows to all, and takes from root of the host; kept for processes forked later."""
    if not _settings:
        _settings.append("sys")
        for entry in os.scandir("/proc"):
            if entry.name.isdecimal() or entry.name in _OWN or entry.is_symlink():
                continue
            if _is_writable(entry.path):
                _settings.append(entry.name)
            elif entry.is_file() and not entry.stat().st_mode & 0o077:
                _secrets.append(entry.name)
    return _settings


def _is_writable(path: str) -> bool:
    """Whether a file, or any below a folder, has a permission to write."""
    mode = os.lstat(path).st_mode
    if not stat.S_ISDIR(mode):
        return bool(mode & 0o222) and not stat.S_ISLNK(mode)
    return any(_is_writable(entry.path) for entry in os.scandir(path))


def _write_new(path: str, text: str) -> None:
    """Write a file in place of whatever is there, a link to elsewhere included."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
    with open(path, "w") as file:
        file.write(text)
