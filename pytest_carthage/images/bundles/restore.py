"""Write a layer's tar back as the upper directory of an overlay that it was made of.

A program of its own, perhaps as root of a user namespace. It enters the folder by chroot(2)
first, so that no symbolic link of a layer leads out of it. Standard library only. Arguments: the
folder, and the prefix of the attributes by which overlayfs knows opaque folders there; the tar is
on standard input. See the OCI image specification (layer.md) and the kernel's overlayfs document.
"""

from __future__ import annotations

import os
import stat
import sys
import tarfile

_WHITEOUT = ".wh."
_OPAQUE = ".wh..wh..opq"
_XATTR = "SCHILY.xattr."
_CHUNK = 1 << 20


class Damaged(Exception):
    """The tar has what no layer has."""


def main(arguments: list[str]) -> int:
    """Write it; returns the exit status."""
    tree, prefix = arguments
    os.umask(0)
    # what these load on first use would be looked for inside
    "".encode("idna")
    b"".decode("latin-1")
    os.chroot(tree)
    os.chdir("/")
    try:
        with tarfile.open(fileobj=sys.stdin.buffer, mode="r|", errors="surrogateescape") as tar:
            restore(tar, prefix)
        while sys.stdin.buffer.read(_CHUNK):
            pass
    except (Damaged, tarfile.TarError) as error:
        print(f"damaged: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"{error.strerror}: {error.filename or 'a file of it'}", file=sys.stderr)
        return 1
    return 0


def restore(tar: tarfile.TarFile, prefix: str) -> None:
    """Write what is in a tar below the root."""
    folders: list[tuple[str, float]] = []
    for member in tar:
        path = _clean(member.name)
        folder, _, name = path.rpartition("/")
        if folder and not stat.S_ISDIR(os.lstat(f"/{folder}").st_mode):
            raise Damaged(f"/{folder} is no folder")
        if name == _OPAQUE:
            os.setxattr(f"/{folder}", f"{prefix}.overlay.opaque", b"y")
        elif name.startswith(_WHITEOUT):
            gone = f"/{folder}/{name.removeprefix(_WHITEOUT)}"
            os.mknod(gone, stat.S_IFCHR, os.makedev(0, 0))
        else:
            _extract(tar, member, f"/{path}")
            if member.isdir():
                folders.append((f"/{path}", member.mtime))
    for path, mtime in reversed(folders):
        os.utime(path, (mtime, mtime))


def _clean(name: str) -> str:
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise Damaged(f"{name} is nowhere")
    return "/".join(parts)


def _extract(tar: tarfile.TarFile, member: tarfile.TarInfo, target: str) -> None:
    if member.islnk():
        os.link(f"/{_clean(member.linkname)}", target, follow_symlinks=False)
        return
    if member.isdir():
        if target != "/":
            os.mkdir(target)
    elif member.issym():
        os.symlink(member.linkname, target)
    elif member.isfile():
        _write(tar, member, target)
    elif member.isfifo():
        os.mkfifo(target)
    elif member.ischr() or member.isblk():
        kind = stat.S_IFCHR if member.ischr() else stat.S_IFBLK
        try:
            os.mknod(target, kind, os.makedev(member.devmajor, member.devminor))
        except PermissionError:  # no user namespace may; a machine gets its own /dev
            return
    else:
        raise Damaged(f"{target} is of an unknown kind")
    os.chown(target, member.uid, member.gid, follow_symlinks=False)
    if not member.issym():
        os.chmod(target, member.mode & 0o7777)
        for key, value in member.pax_headers.items():
            if key.startswith(_XATTR):
                _attribute(target, key.removeprefix(_XATTR), value)
    os.utime(target, (member.mtime, member.mtime), follow_symlinks=False)


def _write(tar: tarfile.TarFile, member: tarfile.TarInfo, target: str) -> None:
    source = tar.extractfile(member)
    assert source is not None
    fd = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        while data := source.read(_CHUNK):
            view = memoryview(data)
            while view:
                view = view[os.write(fd, view) :]
    finally:
        os.close(fd)


def _attribute(target: str, name: str, value: str) -> None:
    if name.startswith(("user.", "system.posix_acl_")) or name == "security.capability":
        os.setxattr(target, name, value.encode("utf-8", "surrogateescape"), follow_symlinks=False)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
