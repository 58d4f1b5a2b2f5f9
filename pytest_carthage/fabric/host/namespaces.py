"""Beginnings of commands that run in namespaces of their own, see unshare(1)."""

from __future__ import annotations

import os
from collections.abc import Sequence

__all__ = ["apart", "as_root_of_files"]

_MAPPED = ("--map-root-user", "--map-auto")


def apart(*, privileged: bool, network: bool) -> list[str]:
    """Beginning of a command all processes and mounts of which end with it.

    Without privileges it is root of a user namespace that has the subordinate ids of this user.

    :param network: whether it has the host's network; otherwise none at all.
    """
    mapping = () if privileged else _MAPPED
    alone = () if network else ("--net",)
    namespaces = ("--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
    return ["setpriv", "--pdeathsig", "KILL", "unshare", *mapping, *alone, *namespaces]


def as_root_of_files(argv: Sequence[str], *more: str) -> list[str]:
    """A command that sees the files of layers with the owners that they have in the image.

    :param more: options of unshare(1) for whoever it is.
    """
    if os.geteuid() == 0:
        return ["unshare", *more, "--", *argv] if more else list(argv)
    return ["unshare", "--user", *_MAPPED, *more, "--", *argv]
