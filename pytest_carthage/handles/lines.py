"""Lines of text as programs of a machine mean them."""

from __future__ import annotations

__all__ = ["lines_of"]


def lines_of(text: str) -> list[str]:
    """Lines without their ends, each of which is a newline, or a carriage return and a newline.

    ``str.splitlines`` ends them at form feeds, separators and much else, too, which for POSIX is
    text like any other (wc(1), and all that counts lines).
    """
    *whole, rest = text.split("\n")
    return [line.removesuffix("\r") for line in whole] + ([rest] if rest else [])
