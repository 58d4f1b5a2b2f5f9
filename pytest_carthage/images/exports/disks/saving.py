"""An image's disk saved as a file, with its kernel and initrd beside it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_carthage.errors import BuildError
from pytest_carthage.images.exports.boot.merged import has_init
from pytest_carthage.images.exports.disks.ensuring import ensure_disk
from pytest_carthage.images.exports.notes import Note, quiet
from pytest_carthage.images.exports.places import absolute, new_file
from pytest_carthage.images.exports.tools import completed, require

if TYPE_CHECKING:
    from pytest_carthage.store.built import Built

__all__ = ["Disk", "save_disk"]

_RAW = (".raw", ".img")


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

    It is the one that machines boot from, see :func:`.ensure_disk`: where it was made before, it
    is copied. Where nothing boots but the image's command, it is switched off after that.

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
    disk = await ensure_disk(built, size_mib=size_mib, offline=offline, doing=doing, note=note)
    assert disk.kernel is not None
    assert disk.initrd is not None
    kernel_path, initrd_path = path.with_suffix(".vmlinuz"), path.with_suffix(".initrd")
    with (
        new_file(path, doing) as new,
        new_file(initrd_path, doing) as new_initrd,
        new_file(kernel_path, doing) as new_kernel,
    ):
        new_initrd.write_bytes(await asyncio.to_thread(disk.initrd.read_bytes))
        new_kernel.write_bytes(await asyncio.to_thread(disk.kernel.read_bytes))
        note(f"writing {path.name}")
        form = "raw" if path.suffix in _RAW else "qcow2"
        program = ["cp", "--sparse=always", str(disk.path), str(new)]
        if form != "raw":
            program = ["qemu-img", "convert", "-f", disk.format, "-O", form, *program[2:]]
        await completed(program, doing=doing, places=[path.parent])
    return Disk(path=path, kernel=kernel_path, initrd=initrd_path, append=disk.append)
