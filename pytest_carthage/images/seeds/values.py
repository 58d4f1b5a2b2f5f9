"""Files that a machine is given before anything of it runs."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["FileInSeed", "text"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FileInSeed:
    """One file, of root's."""

    data: bytes = b""
    mode: int = 0o644
    #: what a symbolic link leads to; empty: it is a plain file
    target: str = ""


def text(lines: str, mode: int = 0o644) -> FileInSeed:
    """A file of text."""
    return FileInSeed(data=lines.encode(errors="surrogateescape"), mode=mode)
