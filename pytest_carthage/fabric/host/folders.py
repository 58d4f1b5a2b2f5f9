"""Names that become parts of paths, and folders that are removed by them. Standard library only.

Such names come from clients, from journals, from the names of files: none of them leads anywhere
but one step down, and what is removed lies below a folder of ours.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

from pytest_carthage.fabric.host.namespaces import as_root_of_files

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["is_name", "remove", "steps"]

#: bytes, see limits.h(0p)
_LONGEST_NAME = 255
#: a folder itself, and no link to one
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_MOUNTS = "/proc/self/mountinfo"


def is_name(name: object) -> bool:
    """Whether a folder of ours can be called so: it leads one step down, and can be read."""
    return (
        isinstance(name, str)
        and name not in ("", ".", "..")
        and "/" not in name
        and name.isprintable()
        and len(name.encode()) <= _LONGEST_NAME
    )


def steps(path: str) -> list[str]:
    """The names of which a path from some top consists, as in ``/a/b``.

    :raises ValueError: it has none, or leads elsewhere.
    """
    top, *names = path.split("/")
    if top or not names or not all(map(is_name, names)):
        raise ValueError(f"{path!r:.80} leads to nothing of ours")
    return names


def remove(top: Path, *names: str) -> str:
    """Remove a folder with all that is in it; returns what is wrong, or nothing.

    No link is followed on the way or in it, and nothing of another file system is removed.

    :param top: a folder of this user, which stays.
    :param names: the way from there to the folder, a step each.
    """
    if not names or not all(map(is_name, names)):
        way = "/".join(map(str, names))
        return f"{way!r:.80} is no folder below {top}, and nothing is removed"
    path = top.joinpath(*names)
    try:
        return _remove(top, names, path)
    except FileNotFoundError:
        return ""
    except OSError as error:
        return f"{path} cannot be removed: {error}"


def _remove(top: Path, names: tuple[str, ...], path: Path) -> str:
    above = os.open(top, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if os.path.samestat(os.fstat(above), os.stat("/")) or os.fstat(above).st_uid != _user():
            return f"{path} is not removed: {top} is no folder of user {_user()} alone"
        for name in names[:-1]:
            below = os.open(name, _FOLDER, dir_fd=above)
            os.close(above)
            above = below
        if mounts := list(_mounts_in(os.path.join(os.path.realpath(top), *names))):
            return f"{path} is not removed: {mounts[0]} is mounted"
        errors = _rmtree(names[-1], above)
        if _user() and any(isinstance(error, PermissionError) for error in errors):
            # files of machines, whose owners are this user's subordinate ids
            subprocess.run(
                as_root_of_files(["rm", "-rf", "--one-file-system", "--", f"./{names[-1]}"]),
                stdin=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd=f"/proc/self/fd/{above}",
                check=False,
            )
        return f"{path} cannot be removed: {errors[0]}" if errors and os.path.lexists(path) else ""
    finally:
        os.close(above)


def _user() -> int:
    return os.geteuid()


def _rmtree(name: str, above: int) -> list[OSError]:
    errors: list[OSError] = []

    def remember(function: object, path: str, info: tuple[Any, BaseException, Any]) -> None:
        if isinstance(info[1], OSError) and not isinstance(info[1], FileNotFoundError):
            errors.append(info[1])

    shutil.rmtree(name, onerror=remember, dir_fd=above)
    return errors


def _mounts_in(folder: str) -> Iterator[str]:
    """Where something is mounted in a folder, or on it, as the calling process sees it."""
    with open(_MOUNTS, encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            point = line.split(" ")[4]
            for character in " \t\n\\":
                point = point.replace(f"\\{ord(character):03o}", character)
            if f"{point}/".startswith(f"{folder}/"):
                yield point
