"""The file system of a machine of the ``netns`` target: the host's own, with private parts.

Everything is read-only, except that the folders in :data:`PRIVATE` are the host's with a
throw-away layer above, and ``/run`` and ``/tmp`` are new and empty. Sources: mount(8),
the kernel's overlayfs document (``userxattr`` is what a user namespace is allowed to use).
"""

from __future__ import annotations

import errno
import os
import shutil
import stat

from pytest_carthage.fabric import syscalls as sys_

#: host folders that a machine may write to without the host noticing
PRIVATE = ("/etc", "/var", "/home", "/root", "/srv", "/opt", "/usr/local", "/mnt")
#: of these, what a machine cannot do without; the others may stay read-only for a plain user
_NEEDED = ("/etc", "/var")
#: how deep folders are mirrored for a user who may not write to the host's own
_DEPTH = 6


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


def enter(*, hostname: str, hosts: str, resolv: str, template: str | None) -> None:
    """Give the calling process, alone in new mount and PID namespaces, its file system.

    :raises OSError: the kernel refused a mount, named in the message.
    """
    # a machine must not see the host's mounts change, nor the other way round
    sys_.mount("none", "/", None, sys_.MS_REC | sys_.MS_PRIVATE)
    sys_.make_read_only("/")
    sys_.mount("proc", "/proc", "proc", sys_.MS_NOSUID | sys_.MS_NODEV | sys_.MS_NOEXEC)
    try:
        sys_.mount("sysfs", "/sys", "sysfs", sys_.MS_NOSUID | sys_.MS_NODEV | sys_.MS_NOEXEC)
    except OSError:
        pass  # a nested container may show only the outer /sys; it stays, read-only
    if template is None:  # a user namespace may not write there anyway
        protect_host_settings()
    private = [top for top in PRIVATE if os.path.isdir(top) and not os.path.islink(top)]
    sys_.mount("tmpfs", "/tmp", "tmpfs", sys_.MS_NOSUID | sys_.MS_NODEV, "mode=0755")
    extra = ",userxattr" if template is not None else ""
    for number, top in enumerate(private):
        upper, work = f"/tmp/{number}u", f"/tmp/{number}w"
        os.mkdir(upper)
        os.mkdir(work)
        info = os.stat(top)
        os.chmod(upper, stat.S_IMODE(info.st_mode))
        if template is None:
            os.chown(upper, info.st_uid, info.st_gid)
            lower = top
        else:
            lower = f"{template}{top}:{top}"
        layers = f"upperdir={upper},workdir={work}{extra}"
        try:
            sys_.mount("overlay", top, "overlay", 0, f"lowerdir={lower},{layers}")
        except OSError as error:
            # a user namespace may not look below what is mounted somewhere under a folder
            if error.errno != errno.EINVAL or (template is None and top in _NEEDED):
                raise
            if top in _NEEDED:
                sys_.mount("overlay", top, "overlay", 0, f"lowerdir={template}{top},{layers}")
    _write_new("/etc/hostname", hostname + "\n")
    _write_new("/etc/hosts", hosts)
    _write_new("/etc/resolv.conf", resolv)
    sys_.mount("tmpfs", "/run", "tmpfs", sys_.MS_NOSUID | sys_.MS_NODEV, "mode=0755")
    os.makedirs("/run/lock", exist_ok=True)
    # hides the upper layers, too
    sys_.mount("tmpfs", "/tmp", "tmpfs", sys_.MS_NOSUID | sys_.MS_NODEV, "mode=1777")
    sys_.mount("tmpfs", "/dev/shm", "tmpfs", sys_.MS_NOSUID | sys_.MS_NODEV, "mode=1777")
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
    """Make /proc/sys read-only, except for what belongs to the network namespace.

    :param root: where /proc is below.
    :param network: that, too, as it is the host's.
    """
    top = f"{root}/proc/sys"
    for path in (top,) if network else (top, f"{top}/net"):
        sys_.mount(path, path, None, sys_.MS_BIND)
    flags = sys_.MS_NOSUID | sys_.MS_NODEV | sys_.MS_NOEXEC
    sys_.mount("none", top, None, sys_.MS_BIND | sys_.MS_REMOUNT | sys_.MS_RDONLY | flags)


def _write_new(path: str, text: str) -> None:
    """Write a file in place of whatever is there, a link to elsewhere included."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
    with open(path, "w") as file:
        file.write(text)
