"""What a virtual machine boots."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Boot", "BootDisk"]

Boot = Literal["kernel", "disk"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BootDisk:
    """A disk that many machines stand on, each with an overlay of its own; nobody writes to it.

    It is held as long as the store of its image is in use. Who needs it longer claims
    :attr:`folder`, shared, as ``flock --shared --no-fork FOLDER COMMAND`` does.
    """

    key: str
    #: where it is kept
    folder: Path
    path: Path
    #: of the disk, as qemu-img(1) calls it
    format: Literal["raw", "qcow2"]
    #: what is booted directly, with the disk as the first one; None: the disk has a bootloader
    kernel: Path | None
    initrd: Path | None
    #: the kernel's command line, where it is booted directly
    append: str
    #: whether its first process is an init of its image, as systemd, and not ours
    has_init: bool
    #: how a machine is told what it is: by a disk for our initrd, or for cloud-init
    seed: Literal["carthage", "cloud-init"] = "carthage"
