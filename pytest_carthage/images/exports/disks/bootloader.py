"""A boot loader on a disk: GRUB, for BIOS and for UEFI, without a loop device.

Before the root file system are a partition with the core of GRUB, to which the first sector
leads, and one with the program that UEFI looks for. Sources: GRUB's manual, "BIOS installation"
and "Invoking grub-mkimage", and its include/grub/i386/pc/boot.h; the specification of UEFI,
section 3.5.1.1, "Removable Media Boot Behavior".
"""

from __future__ import annotations

import asyncio
import struct
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_carthage.images.exports.boot.grub import fetched_grub
from pytest_carthage.images.exports.disks.partitions import SECTOR, Partition, write_table
from pytest_carthage.images.exports.places import room
from pytest_carthage.images.exports.tools import completed, require

if TYPE_CHECKING:
    from pytest_carthage.images.exports.notes import Note
    from pytest_carthage.store.root import Store

__all__ = ["ROOT_AT_MIB", "SOURCE", "install", "loader_files"]

_MIB = (1 << 20) // SECTOR
_CORE_AT_MIB, _SYSTEM_AT_MIB = 1, 2
#: where the root file system begins on a disk with a boot loader
ROOT_AT_MIB = 36

_BIOS_BOOT = uuid.UUID("21686148-6449-6e6f-744e-656564454649")
_EFI_SYSTEM = uuid.UUID("c12a7328-f81f-11d2-ba4b-00a0c93ec93b")
_LINUX = uuid.UUID("0fc63daf-8483-4772-8e79-3d69d8477de4")

_MODULES = (
    "part_gpt part_msdos ext2 fat normal configfile linux search search_fs_uuid test echo ls cat "
    "minicmd reboot halt serial terminal gzio loadenv"
).split()
#: place of the core's first sector in boot.img; of the list of its others in that sector
_CORE_SECTOR_AT, _LIST_AT, _LOADED_AT = 0x5C, SECTOR - 12, 0x820

_EARLY = """search --no-floppy --fs-uuid --set=root @UUID@
set prefix=($root)/boot/grub
configfile ($root)/boot/grub/grub.cfg
"""
_CONFIG = """# no menu: what grub-set-default(8) was told, else the kernel that was installed last
set version=@VERSION@
if [ -e /boot/grub/carthage.cfg ]; then source /boot/grub/carthage.cfg; fi
if [ -s /boot/grub/grubenv ]; then load_env; fi
if [ -e "/boot/vmlinuz-$saved_entry" ]; then set version=$saved_entry; fi
set initrd=/boot/initrd.img-$version
if [ -e /boot/initrd.img-carthage-$version ]; then set initrd=/boot/initrd.img-carthage-$version; fi
linux /boot/vmlinuz-$version root=UUID=@UUID@ @APPEND@
initrd $initrd
boot
"""
_HOOK = """#!/bin/sh
# the next boot is by the kernel that was installed, see deb-postinst(5) and kernel-img.conf(5)
[ -e "/boot/initrd.img-$1" ] || exit 0
echo "set version=$1" > /boot/grub/carthage.cfg
"""

#: part of the key of each disk that has it
SOURCE = _EARLY + _CONFIG + _HOOK


def loader_files(tree: Path, *, identity: str, version: str, append: str) -> None:
    """Write what a root file system has for the boot loader.

    :param tree: a folder that is merged above the image.
    :param version: of the kernel, if nobody chooses another one.
    :param append: the kernel's command line, without the root.
    """
    config = _CONFIG.replace("@VERSION@", version).replace("@UUID@", identity)
    hook = tree / "etc/kernel/postinst.d/zz-pytest-carthage"
    for path in (tree / "boot/grub/grub.cfg", hook):
        path.parent.mkdir(parents=True, exist_ok=True)
    (tree / "boot/grub/grub.cfg").write_text(config.replace("@APPEND@", append))
    hook.write_text(_HOOK)
    hook.chmod(0o755)


async def install(store: Store, raw: Path, *, identity: str, doing: str, note: Note) -> None:
    """Make a disk bootable of which the root file system is there, at its place.

    :raises BuildError: GRUB could not be fetched or made.
    :raises HostError: this host lacks a tool.
    """
    require("mformat")
    grub = await fetched_grub(store, doing=doing, note=note)
    async with room(store, doing) as folder:
        early = folder / "early.cfg"
        early.write_text(_EARLY.replace("@UUID@", identity))
        for form, extra in (("i386-pc", ["biosdisk"]), ("x86_64-efi", ["efi_gop", "efi_uga"])):
            await completed(
                [
                    *(str(grub / "usr/bin/grub-mkimage"), "-d", str(grub / "usr/lib/grub" / form)),
                    *("-O", form, "-o", str(folder / form), "-c", str(early)),
                    *("-p", "/boot/grub", *_MODULES, *extra),
                ],
                program="grub-mkimage",
                doing=doing,
                places=[folder],
            )
        boot = await asyncio.to_thread((grub / "usr/lib/grub/i386-pc/boot.img").read_bytes)
        await asyncio.to_thread(_write, raw, boot, (folder / "i386-pc").read_bytes(), identity)
        system = f"{raw}@@{_SYSTEM_AT_MIB}M"
        sectors = str((ROOT_AT_MIB - _SYSTEM_AT_MIB) * _MIB)
        for argv in (
            ["mformat", "-i", system, "-T", sectors, "-h", "64", "-s", "32", "-v", "EFI", "::"],
            ["mmd", "-i", system, "::/EFI", "::/EFI/BOOT"],
            ["mcopy", "-i", system, str(folder / "x86_64-efi"), "::/EFI/BOOT/BOOTX64.EFI"],
        ):
            await completed(argv, doing=doing, places=[raw.parent], env={"MTOOLS_SKIP_CHECK": "1"})


def _write(raw: Path, boot: bytes, core: bytes, identity: str) -> None:
    """Write the table of partitions, and what a BIOS runs."""
    size = raw.stat().st_size
    with raw.open("r+b") as file:
        file.truncate(size + (1 << 20))  # the copy of the table
        first = _CORE_AT_MIB * _MIB
        sectors = -(-len(core) // SECTOR)
        rest = struct.pack("<QHH", first + 1, sectors - 1, _LOADED_AT)
        file.seek(first * SECTOR)
        file.write(core[:_LIST_AT] + rest + core[SECTOR:])
    code = bytearray(boot)
    struct.pack_into("<Q", code, _CORE_SECTOR_AT, first)
    root = ROOT_AT_MIB * _MIB
    partitions = [
        Partition(kind=_BIOS_BOOT, name="grub", first=first, count=_MIB),
        Partition(kind=_EFI_SYSTEM, name="efi", first=_SYSTEM_AT_MIB * _MIB, count=root - 2 * _MIB),
        Partition(kind=_LINUX, name="root", first=root, count=size // SECTOR - root),
    ]
    write_table(raw, partitions, identity=uuid.UUID(identity), code=bytes(code))
