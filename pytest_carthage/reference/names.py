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


def environment(run: str, layout: str, *, worker: str | None = None) -> str:
    """Name an environment after its run, its layout and the worker that builds it."""
    plain = re.sub(r"[^a-z0-9]+", "-", layout.lower()).strip("-") or "layout"
    return "-".join(part for part in (run, plain, worker) if part)
