"""Names of files as Python has them, while the processes of a run have them in UTF-8."""

from __future__ import annotations

import os
import sys

__all__ = ["lack_of_utf8"]


def lack_of_utf8(path: str | os.PathLike[str], what: str) -> str:
    """Why a folder cannot be told to the processes of a run; empty: it can.

    :param what: how messages call the folder, and where it is chosen.
    """
    name = os.fspath(path)
    encoding = sys.getfilesystemencoding()
    if name.isascii() or encoding == "utf-8":
        return ""
    return (
        f"{what} {name!a} has characters beyond ASCII, and this Python has names of files in "
        f"{encoding}, by its locale; try: PYTHONUTF8=1, LC_ALL=C.UTF-8, or another folder"
    )
