"""Names of runs and environments: short, and easy to say and to type."""

from __future__ import annotations

import re
import secrets

__all__ = ["LONGEST", "complaint", "environment", "new"]

#: a name is part of paths, of a cgroup's name and of container names
LONGEST = 32

_CONSONANTS = "bdfgklmnprstvz"
_VOWELS = "aeiou"
_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


def new() -> str:
    """Make up a name of three syllables, as in ``bakodi``: one of 343,000."""
    return "".join(secrets.choice(_CONSONANTS) + secrets.choice(_VOWELS) for _ in range(3))


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
