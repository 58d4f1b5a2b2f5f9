"""Bootable disks that were made of images, by content key: a folder each, with what boots it.

A disk is complete once its folder has that name; it is made elsewhere and renamed. Machines have
overlays above it, and nobody writes to it.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pytest_carthage.errors import BuildError
from pytest_carthage.store import disk
from pytest_carthage.store.holding import alone

__all__ = ["DISK_META", "DiskMeta", "Disks", "KeptDisk"]

#: file beside a disk that has what is known of it
DISK_META = "disk.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskMeta:
    """What is known of a disk."""

    key: str
    #: name of its image, when it was made
    image: str
    #: key of its image's top layer
    top: str
    #: files, by what they are (``"disk"``, ``"kernel"``, ``"initrd"``), to their bytes
    files: dict[str, int]
    #: the kernel's command line; empty: its bootloader has it
    append: str
    #: version of its kernel
    kernel: str
    #: seconds since the epoch, and those that it took
    made_at: float
    seconds: float

    @classmethod
    def read(cls, folder: Path) -> DiskMeta:
        """Read that of a disk's folder.

        :raises OSError: it cannot be read.
        :raises ValueError: the folder is no complete disk.
        """
        try:
            record: dict[str, Any] = json.loads((folder / DISK_META).read_bytes())
            meta = cls(**{name: record[name] for name in cls.__dataclass_fields__})
            if meta.key != folder.name:
                raise ValueError(f"it is of {meta.key!r}")
            sizes = {name: (folder / name).stat().st_size for name in meta.files}
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(f"{DISK_META}: {error}") from error
        except FileNotFoundError as error:
            raise ValueError(f"{error.filename} is gone") from error
        for name, size in meta.files.items():
            if sizes[name] != size:
                raise ValueError(f"{name} had {size} bytes, and has {sizes[name]}")
        return meta


@dataclass(frozen=True, slots=True)
class KeptDisk:
    """A complete disk."""

    path: Path
    meta: DiskMeta

    def file(self, name: str) -> Path | None:
        """One of its files; None: it has none of that name."""
        return self.path / name if name in self.meta.files else None

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return disk.bytes_on_disk(self.path)

    @property
    def used_at(self) -> float:
        """When it was last asked for, in seconds since the epoch."""
        return (self.path / DISK_META).stat().st_mtime


class Disks:
    """Disks by key."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, key: str) -> Path:
        """The folder that a disk has, or would have."""
        return self.folder / key

    def get(self, key: str) -> KeptDisk | None:
        """A complete disk; None: there is none, or it is damaged."""
        try:
            return KeptDisk(self.path(key), DiskMeta.read(self.path(key)))
        except (OSError, ValueError):
            return None

    def __iter__(self) -> Iterator[KeptDisk]:
        for name in self._names():
            kept = self.get(name)
            if kept is not None:
                yield kept

    def damaged(self) -> list[tuple[Path, str]]:
        """Folders that are no complete disk, each with what is wrong."""
        damaged = []
        for name in self._names():
            try:
                DiskMeta.read(self.path(name))
            except (OSError, ValueError) as error:
                damaged.append((self.path(name), str(error)))
        return damaged

    def of(self, top: str) -> list[KeptDisk]:
        """Disks of the image that has this layer on top."""
        return [kept for kept in self if kept.meta.top == top]

    def use(self, kept: KeptDisk) -> None:
        """Remember that it was asked for."""
        with contextlib.suppress(OSError):
            os.utime(kept.path / DISK_META)

    def commit(self, work: Path, meta: DiskMeta) -> KeptDisk:
        """Make a disk of a folder with its files; all is written before it has its name.

        :raises BuildError: it cannot be kept.
        """
        (work / DISK_META).write_text(json.dumps(asdict(meta), indent=1))
        path = self.path(meta.key)
        if path.exists() and self.get(meta.key) is None:  # damaged: a machine keeps what it has
            path.rename(work.with_name(f"{meta.key}.{secrets.token_hex(4)}.removed"))
        with contextlib.suppress(OSError):
            work.rename(path)
            disk.settle_names(path.parent)
        kept = self.get(meta.key)
        if kept is None:
            raise BuildError(f"disk {meta.key} could not be kept in {path.parent}")
        return kept

    def alone(self, key: str) -> contextlib.AbstractContextManager[bool]:
        """Keep others from beginning to use a disk while the block runs.

        Yields True if that is so; False if somebody uses it, or it is not there.
        """
        return alone(self.path(key))

    def _names(self) -> list[str]:
        with contextlib.suppress(FileNotFoundError), os.scandir(self.folder) as entries:
            return sorted(entry.name for entry in entries)
        return []
