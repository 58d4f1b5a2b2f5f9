"""What a layer's files are, without reading them: names, kinds, sizes, owners, times, attributes.

Where files belong to users of a user namespace, a program of its own looks, as root of that.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from pytest_carthage.fabric.host.namespaces import as_root_of_files

__all__ = ["Census", "count", "main"]

_ROOT = Path(__file__).resolve().parents[2]
_CODE = (
    f"import sys; sys.path.insert(0, {str(_ROOT)!r});"
    "from pytest_carthage.store.census import main; main()"
)
_BLOCK = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Census:
    """What a folder was found to have."""

    #: of all that can be told without reading files; the same for the same
    digest: str
    #: files, folders and all else, itself not counted
    entries: int
    #: bytes on disk
    size: int


def count(tree: Path) -> Census:
    """Count what is in a folder.

    :raises OSError: it is not there, or cannot be looked into.
    """
    if os.geteuid() == 0:
        return _count(os.path.realpath(tree))
    argv = [sys.executable, "-I", "-S", "-c", _CODE, os.path.realpath(tree)]
    done = subprocess.run(
        as_root_of_files(argv), stdin=subprocess.DEVNULL, capture_output=True, check=False
    )
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        raise OSError(f"{tree} cannot be looked into: {lines[-1] if lines else 'no reason given'}")
    return Census(**json.loads(done.stdout))


def main() -> None:
    """Count what is in the folder that is the argument, as a program of its own."""
    try:
        found = _count(sys.argv[1])
    except OSError as error:
        sys.exit(str(error))
    print(json.dumps({"digest": found.digest, "entries": found.entries, "size": found.size}))


def _count(tree: str) -> Census:
    text, entries, size = hashlib.sha256(), 0, 0
    linked: dict[int, bytes] = {}
    text.update(_row(b"", os.fsencode(tree), os.lstat(tree), linked))
    waiting = [b""]
    top = os.fsencode(tree)
    while waiting:
        folder = waiting.pop()
        with os.scandir(top + b"/" + folder) as listing:
            found = sorted(listing, key=lambda entry: entry.name)
        for entry in found:
            info = entry.stat(follow_symlinks=False)
            name = folder + b"/" + entry.name if folder else entry.name
            is_first = info.st_nlink == 1 or info.st_ino not in linked
            text.update(_row(name, entry.path, info, linked))
            entries += 1
            if is_first:
                size += info.st_blocks * _BLOCK
            if stat.S_ISDIR(info.st_mode):
                waiting.append(name)
    return Census(digest=text.hexdigest(), entries=entries, size=size)


def _row(name: bytes, path: bytes, info: os.stat_result, linked: dict[int, bytes]) -> bytes:
    mode = info.st_mode
    fields = [mode, info.st_uid, info.st_gid, info.st_mtime_ns]
    content = b""
    if stat.S_ISREG(mode):
        fields.append(info.st_size)
    elif stat.S_ISLNK(mode):
        content = os.readlink(path)  # noqa: PTH115  bytes
    elif stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
        fields.append(info.st_rdev)
    if info.st_nlink > 1 and not stat.S_ISDIR(mode):
        content += b" of " + linked.setdefault(info.st_ino, name)
    for attribute in sorted(os.listxattr(path, follow_symlinks=False)):
        if attribute != "security.selinux":
            value = os.getxattr(path, attribute, follow_symlinks=False)
            content += b"\0" + os.fsencode(attribute) + b"=" + value
    return b"%b\0%b\0%d:%b\0" % (name, repr(fields).encode(), len(content), content)
