"""One ext4 file system of merged folders, without a loop device."""

from __future__ import annotations

import os
import uuid
from collections.abc import Sequence
from pathlib import Path

from pytest_carthage.fabric.host.namespaces import as_root_of_files
from pytest_carthage.images.exports.epoch import epoch
from pytest_carthage.images.exports.places import room
from pytest_carthage.images.exports.tools import completed
from pytest_carthage.store.root import Store

__all__ = ["identity_of", "make_filesystem"]

#: what is free on a disk that was given no size
_FREE_MIB = 2048

# $1: raw disk to make, $2: size in MiB, or empty, $3: UUID, $4: options of the overlay,
# $5: offset of the file system on the disk, in MiB.
# The working folder has the trees as links 0, 1, ... and an empty folder, merged.
_SCRIPT = """
set -eu
mount -t overlay overlay -o "$4" merged
if [ -n "$2" ]; then
    size=$2 files=$(du -s --inodes merged | cut -f1)
else
    set -- "$@" $(du -s --block-size=1M merged) $(du -s --inodes merged)
    size=$(($6 + $6 / 8 + @FREE@)) files=$8
fi
inodes=$((files * 5 / 4 + 1024)) usual=$((size * 64))
if [ $inodes -lt $usual ]; then inodes=$usual; fi
truncate -s "$((size + $5))M" "$1"
extended="offset=$(($5 * 1048576)),hash_seed=$3,root_owner=0:0"
mke2fs -q -F -t ext4 -b 4096 -m 1 -L root -U "$3" -N $inodes \
    -E "$extended,lazy_itable_init=1,lazy_journal_init=1" -d merged "$1" "${size}M"
"""


def identity_of(key: str) -> str:
    """The UUID of a file system, by what is in it."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, key))


async def make_filesystem(
    store: Store,
    trees: Sequence[Path],
    raw: Path,
    *,
    identity: str,
    size_mib: int | None,
    offset_mib: int = 0,
    doing: str,
) -> None:
    """Make a file system on a disk, as large as is asked for, or as its files and 2 GiB.

    :param trees: what is in it, the top first.
    :param offset_mib: where on the disk it begins; the disk ends with it.
    :raises BuildError: it could not be made.
    """
    async with room(store, doing) as folder:
        for name in ("merged", "bottom"):
            (folder / name).mkdir()
        # a mount's options fit in a page, and paths do not
        for number, tree in enumerate(trees):
            (folder / str(number)).symlink_to(tree)
        names = ":".join([*map(str, range(len(trees))), "bottom"])
        # a user namespace has its own attributes, see overlayfs.rst
        options = f"ro,lowerdir={names}" + ("" if os.geteuid() == 0 else ",userxattr")
        script = f'cd "$0" || exit 1{_SCRIPT}'.replace("@FREE@", str(_FREE_MIB))
        size = "" if size_mib is None else str(size_mib)
        arguments = [str(folder), str(raw), size, identity, options, str(offset_mib)]
        newest = epoch()
        await completed(
            as_root_of_files(
                ["sh", "-c", script, *arguments], "--mount", "--propagation", "private"
            ),
            program="mke2fs",
            doing=doing,
            places=[raw.parent, folder],
            env={} if newest is None else {"E2FSPROGS_FAKE_TIME": str(newest)},
            advice=lambda said: _advice(said, size_mib),
        )


def _advice(said: str, size_mib: int | None) -> str:
    if size_mib is not None and "Could not allocate" in said:
        return f"try: more than size_mib={size_mib}, or none, for as much as is needed"
    if "overlay" in said:
        return "try: as root; this kernel mounts no overlay in a user namespace"
    return ""
