"""Files of variables: a name, ``=`` and a text on each line."""

from __future__ import annotations

from pathlib import Path

from pytest_carthage.errors import LayoutError

__all__ = ["variables_of"]


def variables_of(folder: Path, name: str | None = None) -> dict[str, str]:
    """The variables of a file in a folder.

    :param name: None: those of ``.env``, if there is one.
    :raises LayoutError: there is no such file.
    """
    path = folder / (name or ".env")
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError as error:
        if name is None:
            return {}
        raise LayoutError(f"lab in {folder}: no file {name}; try: a path from there") from error
    pairs = (line.strip().removeprefix("export ").partition("=") for line in lines)
    return {
        key.strip(): text.strip().strip("'\"")
        for key, equals, text in pairs
        if equals and not key.startswith("#")
    }
