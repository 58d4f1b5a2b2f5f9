"""Amounts of memory, as labs write them."""

from __future__ import annotations

from pytest_carthage.labs.documents import Block

__all__ = ["mebibytes"]


def mebibytes(block: Block, key: str, text: str) -> int:
    """An amount of memory, as in ``512m`` or ``1Gb``.

    :raises LayoutError: it is none.
    """
    units = {"": 1 / (1 << 20), "b": 1 / (1 << 20), "k": 1 / 1024, "m": 1, "g": 1024}
    word = text.strip().lower().removesuffix("ib").removesuffix("b")
    number, unit = (word[:-1], word[-1]) if word and word[-1] in "kmg" else (word, "")
    try:
        return max(1, round(float(number) * units[unit]))
    except ValueError:
        raise block.mistake(key, f"{key} {text!r} is no amount of memory", "512m") from None
