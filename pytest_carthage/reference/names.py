"""Names of runs and environments: short, and easy to say and to type."""

from __future__ import annotations

import os
import re

__all__ = ["LONGEST", "complaint", "environment", "new"]

#: a name is part of paths, of a cgroup's name and of container names
LONGEST = 32

_CONSONANTS = "bdfgklmnprstvz"
_VOWELS = "aeiou"
_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


def new() -> str:
    """Make up a name of three syllables, as in ``bakodi``: one of 343,000."""
    number = int.from_bytes(os.urandom(8), "big")
    letters = []
    for alphabet in (_CONSONANTS, _VOWELS) * 3:
        number, index = divmod(number, len(alphabet))
        letters.append(alphabet[index])
    return "".join(letters)


def complaint(name: str) -> str:
    """Say what is wrong with a name that a person chose; empty: nothing."""
    if len(name) > LONGEST:
        return f"a name of {len(name)} characters; at most {LONGEST} go"
    if not _NAME.fullmatch(name):
        return "small letters, digits and single dashes between them make a name"
    return ""


def environment(run: str, layout: str, *, worker: str | None = None, test: str = "") -> str:
    """Name an environment after its run, its layout and the worker that builds it.

    :param test: what it is for, where that is not the whole session: a test, class or module.
    """
    parts = (run, _plain(layout) or "layout", worker, _plain(test)[:LONGEST].strip("-"))
    return "-".join(part for part in parts if part)


def _plain(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
