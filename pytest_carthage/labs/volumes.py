"""Files of a lab that its machines see: copies of them are put into images."""

from __future__ import annotations

from pathlib import Path

from pytest_carthage.labs.documents import Block
from pytest_carthage.labs.lab import Lab

__all__ = ["files_of", "taken"]


def files_of(block: Block, key: str, lab: Lab) -> list[tuple[Path, str]]:
    """Files and folders of ``SOURCE:TARGET[:OPTIONS]``, each with where it is in the machine.

    :raises LayoutError: one is not there.
    """
    files = []
    for text in block.texts(key):
        source, _, rest = text.partition(":")
        target = rest.partition(":")[0]
        path = taken(block, key, source, target)
        if path is not None:
            files.append((path, target.rstrip("/") or "/"))
    return files


def taken(block: Block, key: str, source: str, target: str) -> Path | None:
    """Where a file of the lab is; None: it is not taken, and that is said.

    :raises LayoutError: it is not there.
    """
    if not target.startswith("/"):
        block.remark(key, f"{source} is not taken: it names no path in the machine")
        return None
    path = block.file.parent / source
    if source.startswith(("/", "~", "__")) and not path.is_relative_to(block.file.parent):
        block.remark(key, f"{source} is not taken: it is none of the lab's files, but the host's")
        return None
    if not path.exists():
        raise block.mistake(
            key, f"there is no {source} in {block.file.parent}", "a path from there"
        )
    return path
