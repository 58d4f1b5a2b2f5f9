"""Files of variables: a name, ``=`` and a text on each line."""

from __future__ import annotations

from pathlib import Path

from pytest_carthage.labs.documents import Block

__all__ = ["beside", "variables"]


def beside(file: Path) -> dict[str, str]:
    """The variables of ``.env`` beside a file; none where there is no such file."""
    try:
        return _read(file.parent / ".env")
    except FileNotFoundError:
        return {}


def variables(block: Block, key: str) -> dict[str, str]:
    """The variables of all files that a key names.

    :raises LayoutError: one of them is not there.
    """
    read: dict[str, str] = {}
    for row in block.rows(key) if isinstance(block.values.get(key), list) else block.texts(key):
        name = str(row.get("path")) if isinstance(row, dict) else str(row)
        try:
            read |= _read(block.file.parent / name)
        except OSError as error:
            what = f"{name} in {block.file.parent}: {error.strerror}"
            raise block.mistake(key, what, "a path from there") from error
    return read


def _read(path: Path) -> dict[str, str]:
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    pairs = (line.strip().removeprefix("export ").partition("=") for line in lines)
    return {
        key.strip(): text.strip().strip("'\"")
        for key, equals, text in pairs
        if equals and not key.startswith("#")
    }
