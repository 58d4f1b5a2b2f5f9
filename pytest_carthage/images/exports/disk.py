"""An image as a bootable disk: a file system, a kernel and a small initrd."""

from __future__ import annotations

import asyncio
import os
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_carthage.errors import BuildError
from pytest_carthage.fabric.host.namespaces import as_root_of_files
from pytest_carthage.images.exports.boot.finding import find_kernel
from pytest_carthage.images.exports.boot.initrd import make_initrd
from pytest_carthage.images.exports.boot.merged import has_init, locate
from pytest_carthage.images.exports.epoch import epoch
from pytest_carthage.images.exports.notes import Note, quiet
from pytest_carthage.images.exports.places import absolute, new_file, room
from pytest_carthage.images.exports.tools import completed, require

if TYPE_CHECKING:
    from pytest_carthage.store.built import Built

__all__ = ["Disk", "save_disk"]

_RAW = (".raw", ".img")
#: what is free on a disk that was given no size
_FREE_MIB = 2048
_UDEVS = ("usr/lib/systemd/systemd-udevd", "lib/systemd/systemd-udevd")
_CONSOLES = {"aarch64": "ttyAMA0"}

# $1: raw disk to make, $2: size in MiB, or empty, $3: UUID, $4: options of the overlay.
# The working folder has the trees as links 0, 1, ... and an empty folder, merged.
_SCRIPT = """
set -eu
mount -t overlay overlay -o "$4" merged
used=$(du -s --block-size=1M merged | cut -f1)
files=$(du -s --inodes merged | cut -f1)
if [ -n "$2" ]; then size=$2; else size=$((used + used / 8 + @FREE@)); fi
inodes=$((files * 5 / 4 + 1024)) usual=$((size * 64))
if [ $inodes -lt $usual ]; then inodes=$usual; fi
echo "$used"
mke2fs -q -F -t ext4 -b 4096 -m 1 -L root -U "$3" -N $inodes \
    -E "hash_seed=$3,root_owner=0:0,lazy_itable_init=1" -d merged "$1" "${size}M"
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """What a virtual machine boots: kernel and initrd directly, the disk as its first one."""

    path: Path
    kernel: Path
    initrd: Path
    #: the kernel's command line
    append: str


async def save_disk(
    built: Built,
    path: Path,
    *,
    size_mib: int | None = None,
    offline: bool = False,
    note: Note = quiet,
) -> Disk:
    """Write a disk with one ext4 file system, and beside it a kernel and an initrd.

    The kernel is the image's own, or Debian's for virtual machines, the modules of which the
    disk then has. It boots into systemd where the image has it, else the image's command is
    run, and then it is switched off.

    :param path: ends with .qcow2, .raw or .img.
    :param offline: no kernel is fetched: one was, or the image has its own.
    :param size_mib: by default what the files take and 2 GiB.
    :raises BuildError: it cannot be written, or there is nothing to boot.
    :raises HostError: this host lacks a tool.
    """
    path = absolute(path)
    doing = f"{built.who}: saved as {path}"
    if path.suffix not in (".qcow2", *_RAW):
        raise BuildError(f"{doing}: not known by its ending; try: .qcow2, .raw, .img")
    require("mke2fs", *(() if path.suffix in _RAW else ("qemu-img",)))
    if not await asyncio.to_thread(has_init, built.lower) and not built.config.command:
        raise BuildError(
            f"{doing}: nothing to boot: the image has no systemd and no command; "
            'try: packages=["systemd-sysv"], or command=["/usr/bin/..."]'
        )
    kernel = await find_kernel(built.lower, built.store, doing=doing, note=note, offline=offline)
    kernel_path, initrd_path = path.with_suffix(".vmlinuz"), path.with_suffix(".initrd")
    lower = list(built.lower)
    if kernel.modules is not None:
        lower.append(_as_lib_is(lower, kernel.modules))
    with (
        new_file(path, doing) as new,
        new_file(initrd_path, doing) as new_initrd,
        new_file(kernel_path, doing) as new_kernel,
    ):
        await asyncio.to_thread(
            lambda: new_initrd.write_bytes(make_initrd(kernel, built.config, built.lower))
        )
        await asyncio.to_thread(lambda: new_kernel.write_bytes(kernel.path.read_bytes()))
        note(f"writing {path.name}")
        if path.suffix in _RAW:
            await _make(built, lower, new, size_mib, doing)
        else:
            async with room(built.store, doing) as folder:
                raw = folder / "disk.raw"
                await _make(built, lower, raw, size_mib, doing)
                await completed(
                    ["qemu-img", "convert", "-f", "raw", "-O", "qcow2", str(raw), str(new)],
                    doing=doing,
                    places=[path.parent, folder],
                )
    append = await asyncio.to_thread(_append, built)
    return Disk(path=path, kernel=kernel_path, initrd=initrd_path, append=append)


def _append(built: Built) -> str:
    console = _CONSOLES.get(os.uname().machine, "ttyS0")
    append = f"root=/dev/vda rw console={console}"
    if not any(locate(built.lower, name) for name in _UDEVS):
        # systemd would wait for udev to tell of the console; see systemd-getty-generator(8)
        append += f" systemd.mask=serial-getty@{console}.service"
        append += " systemd.wants=console-getty.service"
    return append


def _as_lib_is(trees: list[Path], modules: Path) -> Path:
    """The folder with a kernel's modules that has them where the image's ``/lib`` leads."""
    lib = locate(trees, "lib")
    return modules if lib is not None and lib.is_symlink() else modules / "usr"


async def _make(
    built: Built, lower: list[Path], raw: Path, size_mib: int | None, doing: str
) -> None:
    """Make a file system of merged folders, without a loop device."""
    async with room(built.store, doing) as folder:
        for name in ("merged", "bottom"):
            (folder / name).mkdir()
        # a mount's options fit in a page, and paths do not
        for number, tree in enumerate(lower):
            (folder / str(number)).symlink_to(tree)
        names = ":".join([*map(str, range(len(lower))), "bottom"])
        # a user namespace has its own attributes, see overlayfs.rst
        options = f"ro,lowerdir={names}" + ("" if os.geteuid() == 0 else ",userxattr")
        script = f'cd "$0" || exit 1{_SCRIPT}'.replace("@FREE@", str(_FREE_MIB))
        identity = str(uuid.uuid5(uuid.NAMESPACE_OID, built.layers[-1].key))
        size = "" if size_mib is None else str(size_mib)
        shell = ["sh", "-c", script, str(folder), str(raw), size, identity, options]
        newest = epoch()
        await completed(
            as_root_of_files(shell, "--mount", "--propagation", "private"),
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
