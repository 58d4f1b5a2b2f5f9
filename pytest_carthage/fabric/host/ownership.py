"""Whose a folder is: what we keep and run must be nobody else's. Standard library only."""

from __future__ import annotations

import contextlib
import os
import stat

__all__ = ["homeless", "make", "refuse_foreign"]


def homeless() -> str:
    """Folder for all that is kept of a user without a home."""
    return f"/tmp/pytest-carthage-{os.geteuid()}"


def refuse_foreign(folder: str, variable: str) -> None:
    """Refuse a folder of somebody else; and one below :func:`homeless` if that is.

    Whoever owns that one, in a folder where all may write, can put anything in the place of what
    is below it.

    :param folder: what does not exist is nobody's.
    :param variable: by which a person chooses another one.
    :raises PermissionError: with what to do.
    """
    above = homeless()
    ways = [above, folder] if folder.startswith(f"{above}/") else [folder]
    for path in ways:
        try:
            # what a person has chosen may be a link
            found = os.lstat(path) if path is above else os.stat(path)
        except FileNotFoundError:
            return
        if found.st_uid != os.geteuid():
            raise PermissionError(
                f"{path} belongs to user {found.st_uid}, not to {os.geteuid()}; "
                f"set {variable} to a folder of your own"
            )
        if path is above and (not stat.S_ISDIR(found.st_mode) or found.st_mode & 0o022):
            raise PermissionError(
                f"{path} is no folder that its owner alone can write to; "
                f"set {variable} to a folder of your own"
            )


def make(folder: str, variable: str, mode: int = 0o700) -> None:
    """Make a folder that this user alone can write to; refuse one of somebody else.

    Nothing is made where somebody else could put a link in its place.

    :param variable: by which a person chooses another one.
    :raises PermissionError: with what to do.
    :raises OSError: it cannot be made.
    """
    refuse_foreign(folder, variable)
    above = homeless()
    if f"{folder}/".startswith(f"{above}/"):
        with contextlib.suppress(FileExistsError):
            os.mkdir(above, 0o711)
        refuse_foreign(f"{above}/", variable)
    os.makedirs(folder, mode, exist_ok=True)
    refuse_foreign(folder, variable)
