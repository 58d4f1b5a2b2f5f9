"""A kernel with its modules: the image's own, or another."""

from __future__ import annotations

import gzip
import lzma
import re
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pytest_carthage.errors import BuildError
from pytest_carthage.images.exports.boot.merged import locate
from pytest_carthage.images.exports.tools import require

__all__ = ["Kernel", "modules_of", "own_kernels"]

#: what the kernel needs until the root file system is there and somebody loads the others: the
#: disk, the clock of random numbers, cards that are to have their names, the port of the agent
_MODULES = (
    "virtio_pci virtio_mmio virtio_blk virtio_rng virtio_net virtio_console "
    "crc32c_generic crc32c_intel libcrc32c ext4"
).split()


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """A kernel with its modules."""

    version: str
    path: Path
    #: folders in which its files are looked for, the top first
    trees: tuple[Path, ...]
    #: folder with ``usr/lib/modules`` that the disk gets; None: its image has them
    modules: Path | None
    busybox: Path


def own_kernels(trees: Sequence[Path]) -> Iterator[tuple[str, Path]]:
    """Version and path of kernels of merged folders that have their modules there; newest first."""
    names = {path.name for tree in trees for path in tree.glob("boot/vmlinuz-*")}
    for name in sorted(names, key=_by_version, reverse=True):
        path = locate(trees, f"boot/{name}")
        version = name.removeprefix("vmlinuz-")
        if path is not None and _module_file(trees, version, "modules.dep") is not None:
            yield version, path


def _by_version(name: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", name)]


def _module_file(trees: Sequence[Path], version: str, name: str) -> Path | None:
    for folder in ("usr/lib/modules", "lib/modules"):
        path = locate(trees, f"{folder}/{version}/{name}")
        if path is not None:
            return path
    return None


def modules_of(kernel: Kernel) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of each module that is loaded, in this order."""
    listing = _module_file(kernel.trees, kernel.version, "modules.dep")
    if listing is None:
        raise BuildError(f"kernel {kernel.version}: no modules.dep beside its modules")
    needs: dict[str, list[str]] = {}
    by_name: dict[str, str] = {}
    for line in listing.read_text().splitlines():
        path, _, others = line.partition(":")
        needs[path] = others.split()
        by_name[_module_name(path)] = path
    done: set[str] = set()
    for name in _MODULES:
        wanted = by_name.get(name)
        if wanted is None:
            continue  # built in, or this kernel has none
        for path in [*reversed(needs[wanted]), wanted]:
            if path not in done:
                done.add(path)
                yield _module_name(path), _read_module(kernel, path)


def _module_name(path: str) -> str:
    return Path(path).name.split(".")[0].replace("-", "_")


def _read_module(kernel: Kernel, name: str) -> bytes:
    path = _module_file(kernel.trees, kernel.version, name)
    if path is None:
        raise BuildError(f"kernel {kernel.version}: no module {name}")
    data = path.read_bytes()
    if name.endswith(".xz"):
        return lzma.decompress(data)
    if name.endswith(".zst"):
        require("zstd")
        return subprocess.run(
            ["zstd", "-dcq"], input=data, stdout=subprocess.PIPE, check=True
        ).stdout
    return gzip.decompress(data) if name.endswith(".gz") else data
