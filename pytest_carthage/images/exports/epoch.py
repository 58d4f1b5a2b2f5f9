"""``SOURCE_DATE_EPOCH``, with which the same files give the same bytes.

See https://reproducible-builds.org/specs.
"""

from __future__ import annotations

import os

from pytest_carthage.errors import BuildError

__all__ = ["epoch"]


def epoch() -> int | None:
    """``SOURCE_DATE_EPOCH``: nothing is newer than this (seconds); None: it is not set.

    :raises BuildError: it is no number.
    """
    text = os.environ.get("SOURCE_DATE_EPOCH", "")
    if not text:
        return None
    if not (text.isascii() and text.isdigit()):
        raise BuildError(
            f"SOURCE_DATE_EPOCH is {text!r}, which is no number of seconds; "
            "try: SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)"
        )
    return int(text)
