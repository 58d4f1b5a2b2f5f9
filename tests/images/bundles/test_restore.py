"""The program that writes a layer's tar back: whoever made it, nothing leads out of the folder."""

from __future__ import annotations

import io
import os
import stat
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_carthage.images.bundles import unpacking

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root enters a folder by chroot(2)")

Member = tuple[tarfile.TarInfo, bytes]


def member(
    name: str, kind: bytes = tarfile.REGTYPE, content: bytes = b"", **fields: object
) -> Member:
    info = tarfile.TarInfo(name)
    info.type, info.size, info.mode, info.mtime = kind, len(content), 0o644, 5
    for field, value in fields.items():
        setattr(info, field, value)
    return info, content


def tar(*members: Member) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as file:
        for info, content in members:
            file.addfile(info, io.BytesIO(content))
    return out.getvalue()


class Restored:
    """A folder beside another one, that a tar could lead to."""

    def __init__(self, root: Path) -> None:
        self.tree = root / "tree"
        self.tree.mkdir()
        self.beside = root / "beside"
        self.beside.mkdir()

    def run(self, data: bytes) -> tuple[int, str]:
        argv = [sys.executable, "-I", "-S", "-c", unpacking._RESTORE, str(self.tree), "trusted"]
        done = subprocess.run(argv, input=data, capture_output=True, check=False)
        assert b"Traceback" not in done.stderr
        return done.returncode, done.stderr.decode().strip()


@pytest.fixture
def restored(tmp_path: Path) -> Restored:
    return Restored(tmp_path)


def test_files_links_and_devices_are_as_they_were(restored: Restored) -> None:
    folder = member("etc", tarfile.DIRTYPE, mode=0o1777, uid=7, gid=8)
    file = member("etc/file", content=b"x" * 5, mode=0o4755, uid=1234, gid=5678)
    hard = member("etc/hard", tarfile.LNKTYPE, linkname="etc/file")
    link = member("link", tarfile.SYMTYPE, linkname="/nowhere", uid=9)
    pipe = member("pipe", tarfile.FIFOTYPE)
    null = member("null", tarfile.CHRTYPE, devmajor=1, devminor=3)
    assert restored.run(
        tar(member("./", tarfile.DIRTYPE, mode=0o755), folder, file, hard, link, pipe, null)
    ) == (0, "")
    etc, inside = restored.tree / "etc", restored.tree / "etc/file"
    info = inside.stat()
    assert (info.st_mode, info.st_uid, info.st_gid) == (stat.S_IFREG | 0o4755, 1234, 5678)
    assert (info.st_mtime, info.st_nlink) == (5, 2)
    assert (etc.stat().st_mode & 0o7777, etc.stat().st_uid, etc.stat().st_mtime) == (0o1777, 7, 5)
    assert str((restored.tree / "link").readlink()) == "/nowhere"
    assert (restored.tree / "link").lstat().st_uid == 9
    assert stat.S_ISFIFO((restored.tree / "pipe").stat().st_mode)
    assert (restored.tree / "null").stat().st_rdev == os.makedev(1, 3)


def test_attributes_are_those_of_the_file_only(restored: Restored) -> None:
    headers = {"SCHILY.xattr.user.note": "ü", "SCHILY.xattr.trusted.overlay.opaque": "y"}
    assert restored.run(tar(member("file", pax_headers=headers)))[0] == 0
    path = restored.tree / "file"
    assert os.getxattr(path, "user.note") == "ü".encode()
    assert "trusted.overlay.opaque" not in os.listxattr(path)


def test_deletions_are_an_overlays_own(restored: Restored) -> None:
    assert restored.run(
        tar(
            member("etc", tarfile.DIRTYPE, mode=0o755),
            member("etc/.wh.passwd"),
            member("var", tarfile.DIRTYPE, mode=0o755),
            member("var/.wh..wh..opq"),
        )
    ) == (0, "")
    gone = (restored.tree / "etc/passwd").lstat()
    assert (stat.S_ISCHR(gone.st_mode), gone.st_rdev) == (True, 0)
    assert os.getxattr(restored.tree / "var", "trusted.overlay.opaque") == b"y"
    assert list((restored.tree / "var").iterdir()) == []


def _through(kind: bytes, **fields: object) -> Callable[[Restored], bytes]:
    def make(restored: Restored) -> bytes:
        link = member("out", tarfile.SYMTYPE, linkname=str(restored.beside))
        return tar(link, member("out/evil", kind, **fields))  # type: ignore[arg-type]

    return make


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda at: tar(member("../beside/evil")), "damaged: ../beside/evil is nowhere"),
        (lambda at: tar(member("a/../../beside/evil")), "damaged: a/../../beside/evil is nowhere"),
        (_through(tarfile.REGTYPE), "damaged: /out is no folder"),
        (_through(tarfile.DIRTYPE), "damaged: /out is no folder"),
        (_through(tarfile.SYMTYPE, linkname="x"), "damaged: /out is no folder"),
        (_through(tarfile.CHRTYPE), "damaged: /out is no folder"),
        (
            lambda at: tar(member("l", tarfile.SYMTYPE, linkname=f"{at.beside}/evil"), member("l")),
            "File exists: /l",
        ),
        (
            lambda at: tar(member("hard", tarfile.LNKTYPE, linkname=f"..{at.beside}/victim")),
            "is nowhere",
        ),
        (lambda at: tar(member("no/folder/file")), "No such file or directory: /no/folder"),
        (lambda at: tar(member("volume", b"V")), "/volume is of an unknown kind"),
        (lambda at: tar(member("file"), member("file")), "File exists: /file"),
    ],
)
def test_what_leads_elsewhere_or_is_wrong_is_refused(
    restored: Restored, make: Callable[[Restored], bytes], message: str
) -> None:
    (restored.beside / "victim").touch()
    status, said = restored.run(make(restored))
    assert status == 1
    assert message in said
    assert [path.name for path in restored.beside.iterdir()] == ["victim"]
    assert (restored.beside / "victim").stat().st_nlink == 1


@pytest.mark.parametrize("size", [0, 100, 512, 600, 1024])
def test_tar_that_ends_too_early_is_refused_or_empty(restored: Restored, size: int) -> None:
    data = tar(member("file", content=b"x" * 2000))[:size]
    status, said = restored.run(data)
    assert status == 1
    assert said.startswith("damaged: ")


def test_garbage_is_refused(restored: Restored) -> None:
    status, said = restored.run(b"no tar at all\n" * 1000)
    assert (status, said.partition(":")[0]) == (1, "damaged")
    assert list(restored.tree.iterdir()) == []
