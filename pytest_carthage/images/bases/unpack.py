"""Apply the layers of an OCI image to one folder: a program of its own, as root of a namespace.

It enters the folder by chroot(2) first, so that no symbolic link of an image leads out of it.
Only the standard library is used; see the OCI image specification, layer.md.

Arguments: the folder, then descriptors of uncompressed tars, the lowest layer first.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import sys
import tarfile

_WHITEOUT = ".wh."
_OPAQUE = ".wh..wh..opq"
_XATTR = "SCHILY.xattr."


def main(arguments: list[str]) -> int:
    """Apply them all."""
    tree, *layers = arguments
    os.umask(0)
    # what these load on first use would be looked for inside
    b"".decode("latin-1")
    "".encode("utf-8", "surrogateescape")
    os.chroot(tree)
    os.chdir("/")
    for fd in layers:
        with (
            os.fdopen(int(fd), "rb") as file,
            tarfile.open(fileobj=file, mode="r:", errors="surrogateescape") as tar,
        ):
            _apply(tar)
    return 0


def _apply(tar: tarfile.TarFile) -> None:
    members = tar.getmembers()
    # whiteouts are about what is below, wherever in the layer they stand
    for member in members:
        folder, _, name = _clean(member.name).rpartition("/")
        if name == _OPAQUE:
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                for entry in os.listdir(f"/{folder}"):
                    _remove(f"/{folder}/{entry}")
        elif name.startswith(_WHITEOUT):
            _remove(f"/{folder}/{name.removeprefix(_WHITEOUT)}")
    folders: list[tarfile.TarInfo] = []
    for member in members:
        path = _clean(member.name)
        if path.rpartition("/")[2].startswith(_WHITEOUT):
            continue
        member.name = path
        if path:
            _make_room(f"/{path}", member)
        if member.isdir():
            folders.append(member)
        _extract(tar, member, path)
    for member in reversed(folders):
        with contextlib.suppress(OSError):
            os.utime(f"/{member.name}", (member.mtime, member.mtime))


def _clean(name: str) -> str:
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise SystemExit(f"a layer has a file that is nowhere: {name}")
    return "/".join(parts)


def _make_room(path: str, member: tarfile.TarInfo) -> None:
    # by a link that leads to nothing yet, as /var/run does
    os.makedirs(os.path.realpath(os.path.dirname(path)), mode=0o755, exist_ok=True)
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not (stat.S_ISDIR(mode) and member.isdir()):
        _remove(path)


def _extract(tar: tarfile.TarFile, member: tarfile.TarInfo, path: str) -> None:
    target = f"/{path}"
    if member.isdir():
        os.makedirs(target, exist_ok=True)
    elif member.islnk():
        os.link(f"/{_clean(member.linkname)}", target, follow_symlinks=False)
        return
    elif member.issym():
        os.symlink(member.linkname, target)
    elif member.isfile():
        source = tar.extractfile(member)
        assert source is not None
        with open(target, "xb") as file:
            shutil.copyfileobj(source, file, 1 << 20)
    elif member.isfifo():
        os.mkfifo(target)
    elif member.ischr() or member.isblk():
        if not (member.devmajor or member.devminor):  # an overlay's own whiteout
            return
        kind = stat.S_IFCHR if member.ischr() else stat.S_IFBLK
        try:
            os.mknod(target, kind, os.makedev(member.devmajor, member.devminor))
        except PermissionError:  # no user namespace may; made when a machine starts
            return
    else:
        raise SystemExit(f"a layer has something of an unknown kind: {member.name}")
    os.chown(target, member.uid, member.gid, follow_symlinks=False)
    if not member.issym():
        os.chmod(target, member.mode & 0o7777)
    for key, value in member.pax_headers.items():
        name = key.removeprefix(_XATTR)
        if name != key and name.startswith(("security.", "user.", "system.")):
            # labels and lists that this host's file system does not have
            with contextlib.suppress(OSError):
                os.setxattr(
                    target, name, value.encode("utf-8", "surrogateescape"), follow_symlinks=False
                )
    os.utime(target, (member.mtime, member.mtime), follow_symlinks=False)


def _remove(path: str) -> None:
    try:
        mode = os.lstat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return
    if stat.S_ISDIR(mode):
        shutil.rmtree(path)
    else:
        os.unlink(path)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
