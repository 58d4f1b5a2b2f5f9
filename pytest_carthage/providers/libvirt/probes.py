"""What libvirt has found out of this host's QEMU, kept between environments: it takes 5 to 8 s.

libvirt looks itself whether what it finds there is still true, by the times of QEMU's file and its
own.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

from pytest_carthage.store.root import images_root

__all__ = ["keep", "recall"]

_WHERE = Path("cache/qemu/capabilities")


def _kept() -> Path:
    return images_root() / "libvirt"


def recall(own: Path) -> None:
    """Give what is kept to a libvirtd that is about to be started; ``own`` is its folder."""
    there = own / _WHERE
    there.mkdir(mode=0o700, parents=True, exist_ok=True)
    with contextlib.suppress(OSError):  # it looks anew
        for path in _kept().glob("*.xml"):
            shutil.copy(path, there)


def keep(own: Path) -> None:
    """Keep what a libvirtd has found out."""
    kept = _kept()
    for path in (own / _WHERE).glob("*.xml"):
        target = kept / path.name
        with contextlib.suppress(OSError):  # then it looks again the next time
            if target.exists() and target.read_bytes() == path.read_bytes():
                continue
            kept.mkdir(mode=0o700, parents=True, exist_ok=True)
            new = kept / f"{path.name}.{os.getpid()}.new"
            shutil.copy(path, new)
            new.replace(target)
