"""What files can have, and whether they still have it: for tests of all ways in and out."""

from __future__ import annotations

import hashlib
import os
import stat
import struct
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

__all__ = ["AS_ROOT", "PROPERTIES", "Property", "make"]

#: nanoseconds since the epoch
_WHEN = 981_173_106_123_456_789
_LINK_WHEN = 1_012_709_106_987_654_321
_CAPABILITY = struct.pack("<5I", 0x02000001, 1 << 13, 0, 0, 0)
#: user::rw-, user:1234:r--, group::r--, mask::r--, other::---; see acl(5)
_ACL = struct.pack(
    "<I" + "HHI" * 5,
    *(2, 1, 6, 0xFFFFFFFF, 2, 4, 1234, 4, 4, 0xFFFFFFFF, 0x10, 4, 0xFFFFFFFF, 0x20, 0, 0xFFFFFFFF),
)
#: of a folder's children: user::rwx, user:1234:r-x, group::r-x, mask::r-x, other::---
_DEFAULT_ACL = struct.pack(
    "<I" + "HHI" * 5,
    *(2, 1, 7, 0xFFFFFFFF, 2, 5, 1234, 4, 5, 0xFFFFFFFF, 0x10, 5, 0xFFFFFFFF, 0x20, 0, 0xFFFFFFFF),
)

#: tells whether files in a folder have it
Property = Callable[[Path], bool]


def make(folder: Path, *, as_root: bool) -> None:
    """Make files that have all of it, as far as this user can."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "holes").open("wb") as file:
        file.seek(32 << 20)
        file.write(b"x" * 5000)
        file.truncate(64 << 20)
    (folder / "one").write_text("one\n")
    os.link(folder / "one", folder / "two")
    (folder / "noted").write_text("x")
    os.setxattr(folder / "noted", "user.note", b"\xff\0text\n")
    (folder / "mode").write_text("x")
    (folder / "mode").chmod(0o2751)
    (folder / "link").symlink_to("one")
    (folder / "inner").mkdir()
    (folder / "inner").chmod(0o1777)
    (folder / "inner/file").write_text("x")
    os.mkfifo(folder / "pipe")
    (folder / "acl").write_text("x")
    if as_root:  # whom it names has no number in a user's namespaces
        os.setxattr(folder / "acl", "system.posix_acl_access", _ACL)
    (folder / "handed-on").mkdir()
    (folder / "handed-on/child").write_text("x")
    (folder / "handed-on/child").chmod(0o604)
    if as_root:
        os.setxattr(folder / "handed-on", "system.posix_acl_default", _DEFAULT_ACL)
        (folder / "capable").write_text("x")
        (folder / "capable").chmod(0o755)
        os.setxattr(folder / "capable", "security.capability", _CAPABILITY)
        (folder / "owned").write_text("x")
        os.chown(folder / "owned", 1234, 70000)
        os.lchown(folder / "link", 42, 43)
        os.mknod(folder / "device", 0o640 | stat.S_IFCHR, os.makedev(1, 3))
    os.utime(folder / "one", ns=(_WHEN, _WHEN))
    os.utime(folder / "link", ns=(_LINK_WHEN, _LINK_WHEN), follow_symlinks=False)
    os.utime(folder / "inner", ns=(_WHEN, _WHEN))


def _holes(folder: Path) -> bool:
    info = (folder / "holes").stat()
    content = (folder / "holes").read_bytes()
    expected = bytes(32 << 20) + b"x" * 5000
    return (
        info.st_size == 64 << 20
        and hashlib.sha256(content[: len(expected)]).digest() == hashlib.sha256(expected).digest()
        and not any(content[-(1 << 20) :])
        and info.st_blocks * 512 < 1 << 20
    )


def _attribute(folder: Path, name: str, attribute: str) -> bytes:
    try:
        return os.getxattr(folder / name, attribute)
    except OSError:
        return b""


PROPERTIES: Mapping[str, Property] = {
    "holes": _holes,
    "hard links": lambda at: (
        (at / "one").stat().st_ino == (at / "two").stat().st_ino
        and (at / "one").read_text() == "one\n"
    ),
    "attributes": lambda at: _attribute(at, "noted", "user.note") == b"\xff\0text\n",
    "capabilities": lambda at: _attribute(at, "capable", "security.capability") == _CAPABILITY,
    "ACLs": lambda at: (
        _attribute(at, "acl", "system.posix_acl_access") == _ACL
        and _attribute(at, "handed-on", "system.posix_acl_default") == _DEFAULT_ACL
        and stat.S_IMODE((at / "handed-on/child").stat().st_mode) == 0o604
        and not _attribute(at, "handed-on/child", "system.posix_acl_access")
    ),
    "devices": lambda at: (
        (at / "device").exists()
        and (at / "device").stat().st_rdev == os.makedev(1, 3)
        and (at / "device").stat().st_mode == 0o640 | stat.S_IFCHR
    ),
    "pipes": lambda at: (at / "pipe").exists() and stat.S_ISFIFO((at / "pipe").stat().st_mode),
    "times": lambda at: (
        (at / "one").stat().st_mtime_ns == _WHEN and (at / "inner").stat().st_mtime_ns == _WHEN
    ),
    "times of links": lambda at: (at / "link").lstat().st_mtime_ns == _LINK_WHEN,
    "links": lambda at: str((at / "link").readlink()) == "one",
    "permissions": lambda at: (
        stat.S_IMODE((at / "mode").stat().st_mode) == 0o2751
        and stat.S_IMODE((at / "inner").stat().st_mode) == 0o1777
    ),
    "owners": lambda at: (
        ((at / "owned").stat().st_uid, (at / "owned").stat().st_gid) == (1234, 70000)
        and ((at / "link").lstat().st_uid, (at / "link").lstat().st_gid) == (42, 43)
    ),
}


def remove(folder: Path) -> None:
    """Remove it."""
    subprocess.run(["rm", "-rf", "--one-file-system", "--", str(folder)], check=True)


AS_ROOT = os.geteuid() == 0
