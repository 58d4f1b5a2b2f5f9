"""The files of one folder of a bundle."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

__all__ = ["Pages", "reason", "write_text"]


class Pages:
    """Writes files that are their owner's alone, and names what could not be had.

    :param folder: made with the first file.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        #: names of what was written
        self.files: list[str] = []
        #: name of what could not be had to why
        self.missing: dict[str, str] = {}

    def text(self, name: str, make: Callable[[], str]) -> None:
        """Write what a function gives; a function that fails costs this file alone."""
        try:
            self.folder.mkdir(mode=0o700, exist_ok=True)
            write_text(self.folder / name, make())
        except Exception as error:  # one drawing must not cost all the rest
            self.lacks(name, error)
        else:
            self.files.append(name)

    def picture(self, name: str, data: bytes) -> None:
        """Write bytes as they are."""
        try:
            self.folder.mkdir(mode=0o700, exist_ok=True)
            with open(self.folder / name, "wb", opener=_private) as file:
                file.write(data)
        except OSError as error:
            self.lacks(name, error)
        else:
            self.files.append(name)

    def json(self, name: str, make: Callable[[], object]) -> None:
        """Write what a function gives as JSON."""
        self.text(name, lambda: json.dumps(make(), indent=1) + "\n")

    def lacks(self, name: str, error: BaseException) -> None:
        """Note that a file could not be had."""
        self.missing[name] = reason(error)


def write_text(path: Path, text: str) -> None:
    """Write a file that is its owner's: logs and output are not for everybody."""
    with open(path, "w", errors="replace", opener=_private) as file:
        file.write(text)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def reason(error: BaseException) -> str:
    """Write an error in one line, its kind before it."""
    return f"{type(error).__name__}: {error}".partition("\n")[0]
