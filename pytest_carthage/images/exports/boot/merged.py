"""Files of merged folders, as the kernel would show them in an overlay."""

from __future__ import annotations

import stat
from collections.abc import Sequence
from pathlib import Path

__all__ = ["INITS", "has_init", "locate"]

#: where systemd, or another init, is
INITS = ("sbin/init", "usr/sbin/init", "usr/lib/systemd/systemd", "lib/systemd/systemd")


def locate(trees: Sequence[Path], name: str) -> Path | None:
    """A file of merged folders (the top first), links not followed; None: it is not there."""
    for tree in trees:
        path = tree
        for part in Path(name).parts:
            path = path / part
            try:
                info = path.lstat()
            except OSError:
                break
            if stat.S_ISCHR(info.st_mode) and info.st_rdev == 0:
                return None
        else:
            return path
    return None


def has_init(trees: Sequence[Path]) -> bool:
    """Whether an image has systemd or another init."""
    return any(locate(trees, name) is not None for name in INITS)
