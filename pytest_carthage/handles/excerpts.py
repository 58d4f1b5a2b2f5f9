"""Short forms of long texts, for representations: pytest cuts what has more than 240 characters."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["beginning", "ending", "listed"]


def beginning(text: str, most: int) -> str:
    """A text in one line, as far as it has room, as in ``'apt-get install -y ...'``."""
    shown = repr(text)
    return shown if len(shown) <= most else f"{shown[: most - 4]}...{shown[0]}"


def ending(text: str, most: int) -> str:
    """The end of a text in one line, as in ``'...: command not found'``."""
    shown = repr(text.strip("\r\n"))
    return shown if len(shown) <= most else f"{shown[0]}...{shown[4 - most :]}"


def listed(names: Sequence[str], *, most: int) -> str:
    """The first of several names, and how many there are beside them; empty for none."""
    more = [f"and {len(names) - most} more"] if len(names) > most else []
    return ", ".join([*names[:most], *more])
