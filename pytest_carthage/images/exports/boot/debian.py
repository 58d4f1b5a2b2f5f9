"""Debian's kernel for virtual machines."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_carthage.errors import BuildError
from pytest_carthage.images.exports.boot.kernel import Kernel
from pytest_carthage.images.exports.boot.packages import unpacked
from pytest_carthage.images.exports.places import room
from pytest_carthage.images.exports.tools import completed, require

if TYPE_CHECKING:
    from pytest_carthage.images.exports.notes import Note
    from pytest_carthage.store.root import Store

__all__ = ["fetched"]

#: by machine: Debian's packages, the smaller first
_PACKAGES = {
    "x86_64": ("linux-image-cloud-amd64", "linux-image-amd64"),
    "aarch64": ("linux-image-cloud-arm64", "linux-image-arm64"),
}

_ADVICE = "try: apt-get update, or an image with packages=['linux-image-cloud-amd64']"


async def fetched(store: Store, *, doing: str, note: Note, offline: bool) -> Kernel:
    """Debian's kernel for virtual machines, and its busybox; fetched once, and kept.

    :raises BuildError: there is none, or none could be fetched.
    :raises HostError: this host lacks what fetches one.
    """
    machine = os.uname().machine
    folder = store.folder("kernels") / machine
    kernel = _read(folder)
    if kernel is not None:
        return kernel
    names = _PACKAGES.get(machine)
    if names is None:
        raise BuildError(f"{doing}: Debian's kernel for {machine} is not known here")
    if offline:
        raise BuildError(
            f"{doing}: offline, and no kernel was fetched yet ({folder}); "
            "try: save a disk once with a network"
        )
    require("apt-get", "dpkg-deb", "depmod")
    async with store.claims.claimed(f"kernel-{machine}", note):
        kernel = _read(folder)
        if kernel is None:
            folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            async with room(store, doing) as work:
                note("fetching a kernel")
                await _fetch(names, work, doing)
                (work / "ready").rename(folder)
            kernel = _read(folder)
    if kernel is None:
        raise BuildError(f"{doing}: {folder} holds no kernel; try: delete that folder")
    return kernel


def _read(folder: Path) -> Kernel | None:
    try:
        version = (folder / "version").read_text()
    except OSError:
        return None
    modules = folder / "tree"
    return Kernel(
        version=version,
        path=folder / "vmlinuz",
        trees=(modules,),
        modules=modules,
        busybox=folder / "busybox",
    )


async def _fetch(names: Sequence[str], work: Path, doing: str) -> None:
    async def choose(options: Sequence[str]) -> Sequence[str]:
        return [await _kernel_package(names, options, doing), "busybox-static"]

    await unpacked(choose, work, doing=doing, advice=_ADVICE)
    await asyncio.to_thread(_arrange, work)
    version = (work / "ready" / "version").read_text()
    await completed(
        ["depmod", "--basedir", str(work / "ready/tree"), version], doing=doing, places=[work]
    )
    # what modprobe looks for, wherever lib is a folder of its own
    usr = work / "ready/tree/usr"
    (work / "ready/tree/lib").rename(usr / "lib")


async def _kernel_package(names: Sequence[str], options: Sequence[str], doing: str) -> str:
    """The package with the kernel that one of others, the first that there is, depends on."""
    said = ""
    for name in names:
        try:
            depends = await completed(["apt-cache", *options, "depends", name], doing=doing)
        except BuildError as error:  # apt does not know it
            said = str(error)
            continue
        packages = re.findall(r"^\s+Depends: (linux-image-\S+)$", depends, re.MULTILINE)
        if packages:
            return str(packages[0])
    problem = f"{doing}: no kernel: this host's apt has no {' and no '.join(names)}"
    raise BuildError(f"{problem}\n{said.removeprefix(f'{doing}: ')}\n{_ADVICE}".strip())


def _arrange(work: Path) -> None:
    files, ready = work / "unpacked", work / "ready"
    ready.mkdir()
    (path,) = files.glob("boot/vmlinuz-*")
    version = path.name.removeprefix("vmlinuz-")
    path.rename(ready / "vmlinuz")
    (ready / "vmlinuz").chmod(0o644)
    (ready / "version").write_text(version)
    (busybox,) = (path for path in files.glob("**/bin/busybox") if path.is_file())
    busybox.rename(ready / "busybox")
    (modules,) = files.glob(f"**/lib/modules/{version}")
    (ready / "tree/usr").mkdir(parents=True)
    # depmod looks for lib/modules
    (ready / "tree/lib/modules").mkdir(parents=True)
    shutil.move(modules, ready / "tree/lib/modules")
