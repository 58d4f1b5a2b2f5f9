"""Write a layer's tar back as the upper directory of an overlay that it was made of.

A program of its own, perhaps as root of a user namespace. All is done by descriptors, so that no
symbolic link of a layer leads out of it. Standard library only. Arguments: the folder, and the
prefix of the attributes by which overlayfs knows opaque folders there; the tar is on standard
input. See the OCI image specification (layer.md) and the kernel's overlayfs document.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys
import tarfile

from pytest_carthage.images.folders import members
from pytest_carthage.images.folders.beneath import FOLDER, Beneath, Outside, Path, steps

__all__ = ["main"]

_WHITEOUT = ".wh."
_OPAQUE = ".wh..wh..opq"
_CHUNK = 1 << 20


class Damaged(Exception):
    """The tar has what no layer has."""


def main() -> None:
    """Write it; ends with the exit status."""
    tree, prefix = sys.argv[1:]
    os.umask(0)
    sys.setrecursionlimit(20_000)  # a path may have 2,000 folders
    status = 1
    try:
        root = Beneath(os.open(tree, FOLDER))
        with tarfile.open(fileobj=sys.stdin.buffer, mode="r|", errors="surrogateescape") as tar:
            restore(tar, root, prefix)
        while sys.stdin.buffer.read(_CHUNK):
            pass
        status = 0
    except Outside as error:
        print(f"damaged: {error} is nowhere", file=sys.stderr)
    except members.UnknownKind as error:
        print(f"damaged: {error} is of an unknown kind", file=sys.stderr)
    except (Damaged, tarfile.TarError) as error:
        print(f"damaged: {error}", file=sys.stderr)
    except OSError as error:
        print(f"{error.strerror}: {error.filename or 'a file of it'}", file=sys.stderr)
    sys.exit(status)


def restore(tar: tarfile.TarFile, root: Beneath, prefix: str) -> None:
    """Write what is in a tar into a folder."""
    folders: dict[Path, tarfile.TarInfo] = {}
    for member in tar:
        path = steps(member.name)
        folder = _folder(root, path[:-1])
        name = path[-1] if path else ""
        if name == _OPAQUE:
            os.setxattr(folder, f"{prefix}.overlay.opaque", b"y")
        elif name.startswith(_WHITEOUT):
            gone = name.removeprefix(_WHITEOUT)
            os.mknod(gone, stat.S_IFCHR, os.makedev(0, 0), dir_fd=folder)
        elif member.islnk():
            _link(root, member, path)
        else:
            if path and root.status(path) is not None:
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), f"/{'/'.join(path)}")
            members.write(tar, member, root, path, is_wanted=_is_kept, must=True)
            if member.isdir():
                folders[path] = member
    for path, member in reversed(folders.items()):
        members.finish(root, path, member, is_wanted=_is_kept, must=True)


def _folder(root: Beneath, path: Path) -> int:
    try:
        return root.folder(path)
    except OSError as error:
        if error.errno in (errno.ENOTDIR, errno.ELOOP):
            raise Damaged(f"/{'/'.join(path)} is no folder") from None
        raise


def _link(root: Beneath, member: tarfile.TarInfo, path: Path) -> None:
    target = steps(member.linkname)
    if not path or not target:
        raise Damaged(f"{member.name} is a hard link to a folder")
    with contextlib.ExitStack() as stack:
        source = os.dup(_folder(root, target[:-1]))
        stack.callback(os.close, source)
        here = _folder(root, path[:-1])
        os.link(target[-1], path[-1], src_dir_fd=source, dst_dir_fd=here, follow_symlinks=False)


def _is_kept(attribute: str) -> bool:
    """Whether an attribute is of the file; what an overlay reads is no bundle's to say."""
    if attribute.startswith("user.overlay."):
        return False
    return attribute.startswith(("user.", "system.posix_acl_")) or attribute == (
        "security.capability"
    )
