"""What to tell of an export that failed: a program, or the kernel, refused."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from pathlib import Path

from pytest_carthage.errors import BuildError
from pytest_carthage.work import space

__all__ = ["program_failure", "refusal"]

_LAST_LINES = 12


def program_failure(
    doing: str, program: str, status: int, said: str, places: Sequence[Path], advice: str = ""
) -> BuildError:
    """What to tell of a program that failed, with its last lines.

    :param places: folders of which to tell the free space when a disk was full.
    """
    lines = "\n".join(f"  {line}" for line in said.splitlines()[-_LAST_LINES:])
    advice = space.advice(said, *places) or advice
    text = f"{doing}: {program} ended with status {status}:\n{lines}"
    return BuildError(f"{text}\n{advice}" if advice else text)


def refusal(doing: str, error: OSError, *places: Path) -> BuildError:
    """What to tell when the kernel refuses something."""
    reason = error.strerror or str(error)
    at = f" ({error.filename})" if error.filename else ""
    if space.is_full(error):
        return BuildError(f"{doing}: {reason}{at}\n{space.remedy(*places)}")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return BuildError(f"{doing}: {reason}{at}; try: a folder that you may write to")
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return BuildError(f"{doing}: {reason}{at}; try: make the folder first")
    return BuildError(f"{doing}: {reason}{at}")
