"""What is asked of files by their names, by whoever answers inside a machine.

The agent far away has this, too, as a part of its program: it is of a Python as old as that one.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    #: gives the numbers of a user, and of his group
    Owner = Callable[[str], tuple[int, int]]
    FileWork = Callable[[Mapping[str, Any], Owner], dict[str, Any]]

__all__ = ["FILE_WORK"]


def _stat(message: Mapping[str, Any], owner: Owner) -> dict[str, Any]:
    info = os.stat(message["path"])
    return {
        "mode": info.st_mode,
        "uid": info.st_uid,
        "gid": info.st_gid,
        "size": info.st_size,
        "mtime": info.st_mtime,
        "mtime_ns": info.st_mtime_ns,
    }


def _listdir(message: Mapping[str, Any], owner: Owner) -> dict[str, Any]:
    return {"names": sorted(os.listdir(message["path"]))}


def _mkdirs(message: Mapping[str, Any], owner: Owner) -> dict[str, Any]:
    path = message["path"]
    if os.path.isdir(path):
        return {"made": False}
    os.makedirs(path, exist_ok=True)
    if message.get("user"):  # first: a new owner takes the set-group-ID bit away
        os.chown(path, *owner(message["user"]))
    os.chmod(path, message.get("mode") or 0o755)
    return {"made": True}


def _symlink(message: Mapping[str, Any], owner: Owner) -> dict[str, Any]:
    path = message["path"]
    if os.path.islink(path):
        os.unlink(path)
    os.symlink(message["target"], path)
    if message.get("user"):
        os.chown(path, *owner(message["user"]), follow_symlinks=False)
    if message.get("mtime_ns") is not None:
        when = message["mtime_ns"]
        os.utime(path, ns=(when, when), follow_symlinks=False)
    return {}


def _link(message: Mapping[str, Any], owner: Owner) -> dict[str, Any]:
    """One more name of a file, in place of another file's."""
    path, target = message["path"], message["target"]
    if os.path.lexists(path) and not os.path.isdir(path):
        if os.path.samestat(os.lstat(path), os.lstat(target)):
            return {}
        os.unlink(path)
    os.link(target, path, follow_symlinks=False)
    return {}


def _settle(message: Mapping[str, Any], owner: Owner) -> dict[str, Any]:
    """What a file or folder is given when its content is there; times last."""
    path = message["path"]
    if message.get("mode") is not None:
        os.chmod(path, message["mode"])
    for name, value in message.get("attributes", {}).items():
        os.setxattr(path, name, bytes.fromhex(value))
    if message.get("mtime_ns") is not None:
        os.utime(path, ns=(message["mtime_ns"], message["mtime_ns"]))
    return {}


def _chmod(message: Mapping[str, Any], owner: Owner) -> dict[str, Any]:
    os.chmod(message["path"], message["mode"])
    return {}


def _chown(message: Mapping[str, Any], owner: Owner) -> dict[str, Any]:
    os.chown(message["path"], *owner(message["user"]))
    return {}


#: operation to what does it: takes the message, and what gives a user's numbers
FILE_WORK: Mapping[str, FileWork] = {
    "stat": _stat,
    "listdir": _listdir,
    "mkdirs": _mkdirs,
    "symlink": _symlink,
    "link": _link,
    "settle": _settle,
    "chmod": _chmod,
    "chown": _chown,
}
