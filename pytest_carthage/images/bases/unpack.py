"""Apply the layers of an OCI image to one folder: a program of its own, as root of a namespace.

Each layer is unpacked into a folder of its own, and what is there then takes the place of what is
below, as an overlay of the two would show it: so a folder that replaces a link is never mistaken
for what the link leads to. All of it is done by descriptors, from an empty root.

Only the standard library is used; see the OCI image specification, layer.md. Arguments: the
folder, an empty one on the same disk, then descriptors of uncompressed tars, the lowest first.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
import sys
import tarfile

from pytest_carthage.images.bases.merging import Marks, merge
from pytest_carthage.images.folders import members
from pytest_carthage.images.folders.beneath import FOLDER, Beneath, Outside, Path, steps

__all__ = ["main"]

_WHITEOUT = ".wh."
_OPAQUE = ".wh..wh..opq"


def main() -> None:
    """Apply them all."""
    tree, room, *layers = sys.argv[1:]
    os.umask(0)
    sys.setrecursionlimit(20_000)  # a path may have 2,000 folders
    # what these load on first use would be looked for inside
    b"".decode("latin-1")
    "".encode("utf-8", "surrogateescape")
    below = os.open(tree, FOLDER)
    work = os.open(room, FOLDER)
    os.mkdir("root", 0o700, dir_fd=work)
    os.fchdir(os.open("root", FOLDER, dir_fd=work))
    os.chroot(".")  # whatever is not done by a descriptor finds nothing at all
    try:
        for number, fd in enumerate(layers):
            with (
                os.fdopen(int(fd), "rb") as file,
                tarfile.open(fileobj=file, mode="r:", errors="surrogateescape") as tar,
            ):
                _apply(tar, below, work, is_first=number == 0)
    except Outside as error:
        raise SystemExit(f"a layer has a file that is nowhere: {error}") from None
    except members.UnknownKind as error:
        raise SystemExit(f"a layer has something of an unknown kind: {error}") from None


def _apply(tar: tarfile.TarFile, below: int, work: int, *, is_first: bool) -> None:
    if is_first:
        with contextlib.closing(Beneath(below)) as root:
            _Layer(tar, root, below).unpack()
        return
    os.mkdir("layer", 0o755, dir_fd=work)
    fd = os.open("layer", FOLDER, dir_fd=work)
    try:
        with contextlib.closing(Beneath(fd)) as root:
            layer = _Layer(tar, root, below)
            layer.unpack()
        merge(fd, below, layer.marks)
    finally:
        os.close(fd)
    shutil.rmtree("layer", dir_fd=work)


class _Layer:
    """One layer on its way into a folder of its own."""

    def __init__(self, tar: tarfile.TarFile, root: Beneath, below: int) -> None:
        self._tar = tar
        self._root = root
        #: descriptor of what the layers below have come to
        self._below = below
        self.marks = Marks()
        #: folders to what the tar says of them, in its order
        self._folders: dict[Path, tarfile.TarInfo] = {}

    def unpack(self) -> None:
        """Write what is in it, and mark what it deletes below."""
        for member in self._tar:
            path = steps(member.name)
            name = path[-1] if path else ""
            if name.startswith(_WHITEOUT):
                self._mark(path[:-1], name)
            elif not _is_overlays_own(member):
                self._write(member, path)
        for path, member in reversed(self._folders.items()):
            members.finish(self._root, path, member, is_wanted=_is_kept)

    def _mark(self, above: Path, name: str) -> None:
        if self.marks.is_gone(above) and self._root.status(above) is None:
            return  # what is above goes, with all that is in it
        above = self._above(above)
        if name == _OPAQUE:
            self.marks.opaque.add(above)
        else:
            self.marks.gone.add((*above, name.removeprefix(_WHITEOUT)))

    def _write(self, member: tarfile.TarInfo, path: Path) -> None:
        if path:
            path = (*self._above(path[:-1]), path[-1])
        info = self._root.status(path)
        if info is not None and path and not (stat.S_ISDIR(info.st_mode) and member.isdir()):
            self._root.remove(path)
            self._forget(path)
        if member.islnk():
            self._link(member, path)
            return
        members.write(self._tar, member, self._root, path, is_wanted=_is_kept)
        if member.isdir():
            self.marks.implicit.discard(path)
            self._folders.pop(path, None)
            self._folders[path] = member

    def _above(self, path: Path) -> Path:
        """A folder in which something is to be, without links on the way; made where it lacks."""
        path = self._root.real(path)
        for length in range(1, len(path) + 1):
            info = self._root.status(path[:length])
            if info is not None and not stat.S_ISDIR(info.st_mode):
                self._root.remove(path[:length])  # a later member says otherwise
        self.marks.implicit.update(self._root.make(path))
        return path

    def _link(self, member: tarfile.TarInfo, path: Path) -> None:
        """A hard link to what is in the layer, or as a last resort below it."""
        target = steps(member.linkname)
        if not target:
            raise members.UnknownKind(f"{member.name!r}, a hard link to a folder")
        target = (*self._root.real(target[:-1]), target[-1])
        above = os.dup(self._root.folder(path[:-1]))
        with contextlib.ExitStack() as stack:
            stack.callback(os.close, above)
            source = self._root
            if source.status(target) is None:
                source = stack.enter_context(contextlib.closing(Beneath(self._below)))
            try:
                os.link(
                    target[-1],
                    path[-1],
                    src_dir_fd=source.folder(target[:-1]),
                    dst_dir_fd=above,
                    follow_symlinks=False,
                )
            except OSError as error:
                if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.EPERM):
                    raise
                raise SystemExit(
                    f"a layer has {member.name} as a hard link to {member.linkname}: "
                    f"{error.strerror}"
                ) from None

    def _forget(self, path: Path) -> None:
        """What was below is no longer there."""
        self.marks.forget(path)
        for folder in [one for one in self._folders if one[: len(path)] == path]:
            del self._folders[folder]


def _is_overlays_own(member: tarfile.TarInfo) -> bool:
    return member.ischr() and not (member.devmajor or member.devminor)


def _is_kept(attribute: str) -> bool:
    """Whether an attribute is taken; what overlays say to themselves is no image's to say."""
    return attribute.startswith(("security.", "user.", "system.")) and not attribute.startswith(
        "user.overlay."
    )
