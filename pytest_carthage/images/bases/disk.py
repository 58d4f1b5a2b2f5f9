"""The root file system of a disk image: qcow2 or raw, with partitions or without."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_carthage.errors import BuildError
from pytest_carthage.fabric.host.execution import Ended, run
from pytest_carthage.fabric.host.namespaces import apart
from pytest_carthage.images.bases.fetching import fetch
from pytest_carthage.images.bases.hashes import content_hash
from pytest_carthage.images.bases.values import BaseResult
from pytest_carthage.store.layer import FETCHED
from pytest_carthage.work import space

if TYPE_CHECKING:
    from pytest_carthage.images.bases.values import BaseTools
    from pytest_carthage.model.image import Image

__all__ = ["inputs", "make"]

_SECTOR = 512

# $1: disk, $2: type, $3: offset, $4: size, $5: where to mount, $6: options, $7: tree.
# 3: a file system, but not of a root; the mount ends with the namespace, and its loop device
# with the mount.
_MOUNTED = """
set -eu
mkdir -p "$5"
mount -t "$2" -o "ro,loop,offset=$3,sizelimit=$4$6" -- "$1" "$5"
for name in bin usr etc; do
    if [ ! -e "$5/$name" ] && [ ! -L "$5/$name" ]; then exit 3; fi
done
cp -a -- "$5/." "$7/"
rmdir -- "$7/lost+found" 2>/dev/null || :
"""

# the same by debugfs(8), which needs no mount and no device, and knows the ext family only
_READ = """
set -eu
for name in bin usr etc; do
    if debugfs -R "stat /$name" "$1?offset=$3" 2>&1 | grep -q 'File not found'; then exit 3; fi
done
debugfs -R "rdump / $7" "$1?offset=$3" 2>&1 | grep -v '^debugfs ' >&2 || :
rmdir -- "$7/lost+found" 2>/dev/null || :
"""

#: how a journal is left as it is: the disk is not written to
_AS_IT_IS = {"ext3": ",noload", "ext4": ",noload", "xfs": ",norecovery,nouuid"}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    #: bytes
    offset: int
    size: int
    #: as mount(8) calls it; empty: none that is known
    type: str


async def inputs(image: Image) -> dict[str, str]:
    """The path, and the hash of the file; nothing of one that is fetched, which is declared.

    :raises BuildError: the file cannot be read, or is another one than was declared.
    """
    if image.path is None:
        return {}
    digest = await asyncio.to_thread(content_hash, image.path, _who(image))
    _compare(image, digest)
    return {str(image.path): digest}


def _compare(image: Image, digest: str) -> None:
    if image.sha256 and digest != image.sha256:
        raise BuildError(
            f"{_who(image)}: its SHA-256 is {digest}, and sha256= says {image.sha256}; "
            "try: get the file again, or what its publisher says of it now"
        )


async def make(image: Image, tree: Path, tools: BaseTools) -> BaseResult:
    """Copy its root file system's files; one that is fetched stays beside them.

    :raises BuildError: it has none that can be read, or could not be fetched.
    """
    subject = _who(image)
    if image.path is None:
        disk, digest = tree.with_name(FETCHED), image.sha256
        if tools.offline:
            raise BuildError(
                f"{subject}: offline, and it is fetched from elsewhere; try: once with a network, "
                "or Image.cloud() with the path of the file"
            )
        _compare(image, await fetch(image.reference, disk, who=subject, note=tools.note))
    else:
        disk = image.path
        (digest,) = (await inputs(image)).values()
    # beside the tree, on the same disk; gone with the caller's folder if this is killed
    raw = tree.with_name(f"{tree.name}.disk")
    mounted = tree.with_name(f"{tree.name}.mounted")
    try:
        path = await _as_raw(disk, raw, subject, tools)
        parts = await _parts(path)
        for part in sorted(parts, key=lambda part: -part.size):
            if part.type and await _copy(path, part, mounted, tree, subject, tools):
                return BaseResult(digest=f"sha256:{digest}")
    finally:
        with contextlib.suppress(FileNotFoundError):
            raw.unlink()
        with contextlib.suppress(OSError):
            mounted.rmdir()
    listing = ", ".join(f"{part.type or 'unknown'} of {part.size >> 20} MiB" for part in parts)
    raise BuildError(
        f"{subject}: no root file system on it, with bin, usr and etc; seen: "
        f"{listing or 'nothing'}; try: qemu-img info and fdisk -l, which tell what it is"
    )


async def _as_raw(path: Path, raw: Path, who: str, tools: BaseTools) -> Path:
    with path.open("rb") as file:
        is_qcow = file.read(4) == b"QFI\xfb"
    if not is_qcow:
        return path
    tools.note(f"reading {path.name}")
    ended = await run(
        [
            *apart(privileged=tools.privileged, network=False),
            *("qemu-img", "convert", "-f", "qcow2", "-O", "raw", "--", str(path), str(raw)),
        ]
    )
    if ended.status:
        raise BuildError(_failure(who, "qemu-img", ended, raw))
    return raw


async def _parts(path: Path) -> list[_Part]:
    """Partitions, or all of it where it has none."""
    ended = await run(
        ["partx", "--show", "--noheadings", "--output", "START,SECTORS", str(path)],
        keep_output=True,
    )
    rows = [line.split() for line in ended.output.decode().splitlines()]
    places = [(int(row[0]) * _SECTOR, int(row[1]) * _SECTOR) for row in rows if len(row) == 2]
    whole = (0, (await asyncio.to_thread(path.stat)).st_size)
    return [await _part(path, offset, size) for offset, size in places or [whole]]


async def _part(path: Path, offset: int, size: int) -> _Part:
    ended = await run(
        [
            *("blkid", "--probe", "--usages", "filesystem", "--match-tag", "TYPE"),
            *("--output", "value", "--offset", str(offset), "--size", str(size), "--", str(path)),
        ],
        keep_output=True,
    )
    return _Part(offset=offset, size=size, type=ended.output.decode().strip())


async def _copy(
    path: Path, part: _Part, mounted: Path, tree: Path, who: str, tools: BaseTools
) -> bool:
    """Copy the files of a root file system; False: it is one of another kind."""
    if not tools.privileged and not part.type.startswith("ext"):
        return False
    tools.note(f"copying {part.type} of {part.size >> 20} MiB")
    script = _MOUNTED if tools.privileged else _READ
    ended = await run(
        [
            *apart(privileged=tools.privileged, network=False),
            *("sh", "-c", script, "sh"),
            *_arguments(path, part, mounted, tree),
        ]
    )
    if ended.status == 3:
        return False
    if ended.status:
        raise BuildError(_failure(who, "copying", ended, tree))
    return True


def _arguments(path: Path, part: _Part, mounted: Path, tree: Path) -> Sequence[str]:
    numbers = (str(part.offset), str(part.size))
    return [str(path), part.type, *numbers, str(mounted), _AS_IT_IS.get(part.type, ""), str(tree)]


def _failure(who: str, program: str, ended: Ended, place: Path) -> str:
    said = f"{who}: {program} ended with status {ended.status}; the last lines:\n{ended.text}\n"
    full = space.advice(ended.text, place.parent)
    return said + (full or "try: qemu-img check and fsck, which tell whether it is damaged")


def _who(image: Image) -> str:
    return f"image {image.name!r} ({image.path or image.reference})"
