"""The disk of an image: found in the store, or made and kept there."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_carthage import clock
from pytest_carthage.errors import BuildError
from pytest_carthage.images.exports.boot import initrd as booting
from pytest_carthage.images.exports.boot.finding import find_kernel
from pytest_carthage.images.exports.boot.kernel import own_kernels
from pytest_carthage.images.exports.boot.merged import has_init, locate
from pytest_carthage.images.exports.disks import bootloader
from pytest_carthage.images.exports.disks.filesystem import identity_of, make_filesystem
from pytest_carthage.images.exports.disks.values import BootDisk
from pytest_carthage.images.exports.epoch import epoch
from pytest_carthage.images.exports.notes import Note, quiet
from pytest_carthage.images.exports.places import room
from pytest_carthage.images.exports.tools import require
from pytest_carthage.store.disks import DiskMeta

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_carthage.images.exports.boot.kernel import Kernel
    from pytest_carthage.images.exports.disks.values import Boot
    from pytest_carthage.store.built import Built
    from pytest_carthage.store.disks import KeptDisk

__all__ = ["ensure_disk"]

#: part of every key: raised when disks of equal images would be made differently
_FORMAT = 2
_UDEVS = ("usr/lib/systemd/systemd-udevd", "lib/systemd/systemd-udevd")
_CONSOLES = {"aarch64": "ttyAMA0"}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wanted:
    """A disk that is asked for."""

    built: Built
    kernel: Kernel
    boot: Boot
    size_mib: int | None
    has_init: bool
    doing: str
    note: Note

    @property
    def key(self) -> str:
        """Content key: of all that the disk is made of."""
        parts = {
            "format": _FORMAT,
            "top": self.built.layers[-1].key,
            "kernel": [self.kernel.version, self.kernel.modules is None],
            "initrd": booting.SOURCE,
            "boot": [self.boot, bootloader.SOURCE] if self.boot == "disk" else [self.boot],
            "size": self.size_mib,
            "command": None if self.has_init else asdict(self.built.config),
            "epoch": epoch(),
        }
        text = json.dumps(parts, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    @property
    def kernels(self) -> list[Kernel]:
        """Those that a boot loader can be told to take."""
        if self.kernel.modules is not None:
            return [self.kernel]
        lower = self.built.lower
        return [
            replace(self.kernel, version=version, path=path) for version, path in own_kernels(lower)
        ]

    @property
    def trees(self) -> list[Path]:
        """Folders that are merged on the disk, the top first."""
        trees = list(self.built.lower)
        if self.kernel.modules is not None:
            trees.append(_as_lib_is(trees, self.kernel.modules))
        return trees


async def ensure_disk(
    built: Built,
    *,
    boot: Boot | None = None,
    size_mib: int | None = None,
    offline: bool = False,
    doing: str = "",
    note: Note = quiet,
) -> BootDisk:
    """Find the disk of an image in the store, or make it; it is held with the image's store.

    It has one ext4 file system. The kernel is the image's own, or Debian's for virtual machines,
    the modules of which the disk then has. It boots into systemd where the image has it, else the
    image's command is run.

    :param boot: by ``"disk"`` it has a boot loader for either firmware, and the kernel on it. An
        image that is a disk, with nothing added, is taken as it is unless this is ``"kernel"``.
    :param size_mib: by default what the files take and 2 GiB.
    :param offline: no kernel is fetched: one was, or the image has its own.
    :param doing: how messages about it begin.
    :raises BuildError: it cannot be made, or there is nothing to boot.
    :raises HostError: this host lacks a tool.
    """
    doing = doing or f"{built.who}: made a disk"
    image = built.image
    if image.kind == "disk" and not image.contents and boot != "kernel":
        path = image.path or built.layers[0].disk
        try:
            return await asyncio.to_thread(_as_it_is, built, path)
        except OSError as error:
            raise BuildError(
                f"{doing}: {path} cannot be read: {error.strerror}; try: boot='kernel', which "
                "takes its files alone, as a bundle has them"
            ) from error
    boot = boot or "kernel"
    store = built.store
    boots = await asyncio.to_thread(has_init, built.lower)
    kernel = await find_kernel(built.lower, store, doing=doing, note=note, offline=offline)
    wanted = _Wanted(
        built=built,
        kernel=kernel,
        boot=boot,
        size_mib=size_mib,
        has_init=boots,
        doing=doing,
        note=note,
    )
    kept = await _held(built, wanted.key)
    if kept is None:
        require("mke2fs")
        async with store.claims.claimed(wanted.key, note) as claim:
            kept = await _held(built, wanted.key)
            if kept is None:
                claim.tell("makes a disk", built.image.name)
                kept = await _make(wanted)
                await store.holding.added(kept.path)
    store.disks.use(kept)
    path = kept.path / "disk"
    return BootDisk(
        key=kept.meta.key,
        folder=kept.path,
        path=path,
        format="raw",
        kernel=kept.file("kernel"),
        initrd=kept.file("initrd"),
        append=kept.meta.append,
        has_init=boots,
    )


def _as_it_is(built: Built, path: Path) -> BootDisk:
    """An image's own disk."""
    with path.open("rb") as file:
        is_qcow = file.read(4) == b"QFI\xfb"
    top = built.layers[-1]
    return BootDisk(
        key=top.key,
        folder=top.path,
        path=path,
        format="qcow2" if is_qcow else "raw",
        kernel=None,
        initrd=None,
        append="",
        has_init=True,
        seed="cloud-init" if built.image.is_cloud else "carthage",
    )


async def _held(built: Built, key: str) -> KeptDisk | None:
    """A disk that is there and held, so that it stays."""
    store = built.store
    if await store.holding.added(store.disks.path(key)):
        return await asyncio.to_thread(store.disks.get, key)
    return None


async def _make(wanted: _Wanted) -> KeptDisk:
    built, kernel = wanted.built, wanted.kernel
    store = built.store
    began = clock.monotonic_s()
    wanted.note("making a disk")
    work = store.work(wanted.key)
    await asyncio.to_thread(store.take_away, work)
    work.mkdir(mode=0o711, parents=True)
    identity = identity_of(built.layers[-1].key)
    append = await asyncio.to_thread(_append, built)
    try:
        if wanted.boot == "disk":
            await _make_with_loader(wanted, work, identity, append)
        else:
            await _make_filesystem(wanted, work / "disk", wanted.trees, identity)
            await asyncio.to_thread(_write_kernel, built, kernel, work)
            append = f"root=/dev/vda rw {append}"
        meta = DiskMeta(
            key=wanted.key,
            image=built.image.name,
            top=built.layers[-1].key,
            files={path.name: path.stat().st_size for path in sorted(work.iterdir())},
            append="" if wanted.boot == "disk" else append,
            kernel=kernel.version,
            made_at=clock.unix_s(),
            seconds=clock.monotonic_s() - began,
        )
        return await asyncio.to_thread(store.disks.commit, work, meta)
    except BaseException as error:
        store.take_away(work)
        if isinstance(error, OSError):
            raise BuildError(f"{wanted.doing}: {error}") from error
        raise


async def _make_filesystem(
    wanted: _Wanted, raw: Path, trees: Sequence[Path], identity: str, offset_mib: int = 0
) -> None:
    await make_filesystem(
        wanted.built.store,
        trees,
        raw,
        identity=identity,
        size_mib=wanted.size_mib,
        offset_mib=offset_mib,
        doing=wanted.doing,
    )


async def _make_with_loader(wanted: _Wanted, work: Path, identity: str, append: str) -> None:
    """Make a disk that boots by itself: what the loader needs is merged above the image."""
    store, version, raw = wanted.built.store, wanted.kernel.version, work / "disk"
    async with room(store, wanted.doing) as folder:
        boot = folder / "boot"
        boot.mkdir()
        await asyncio.to_thread(
            bootloader.loader_files,
            folder,
            identity=identity,
            version=version,
            append=f"rw {append}",
        )
        for kernel in wanted.kernels:
            await asyncio.to_thread(
                _write_kernel,
                wanted.built,
                kernel,
                boot,
                name=f"vmlinuz-{kernel.version}",
                initrd=f"initrd.img-carthage-{kernel.version}",
            )
        trees = [folder, *wanted.trees]
        await _make_filesystem(wanted, raw, trees, identity, bootloader.ROOT_AT_MIB)
    await bootloader.install(store, raw, identity=identity, doing=wanted.doing, note=wanted.note)


def _write_kernel(
    built: Built, kernel: Kernel, folder: Path, *, name: str = "kernel", initrd: str = "initrd"
) -> None:
    (folder / initrd).write_bytes(booting.make_initrd(kernel, built.config, built.lower))
    (folder / name).write_bytes(kernel.path.read_bytes())
    for each in (initrd, name):
        (folder / each).chmod(0o644)


def _append(built: Built) -> str:
    console = _CONSOLES.get(os.uname().machine, "ttyS0")
    append = f"console={console}"
    if not any(locate(built.lower, name) for name in _UDEVS):
        # systemd would wait for udev to tell of the console; see systemd-getty-generator(8)
        append += f" systemd.mask=serial-getty@{console}.service"
        append += " systemd.wants=console-getty.service"
    return append


def _as_lib_is(trees: list[Path], modules: Path) -> Path:
    """The folder with a kernel's modules that has them where the image's ``/lib`` leads."""
    lib = locate(trees, "lib")
    return modules if lib is not None and lib.is_symlink() else modules / "usr"
