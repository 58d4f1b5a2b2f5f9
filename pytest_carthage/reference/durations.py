"""Durations as people write them."""

from __future__ import annotations

import re

__all__ = ["duration_s"]

_UNITS_S = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_PART = re.compile(r"(\d+(?:\.\d+)?)([smhd])")


def duration_s(text: str) -> float:
    """Read a duration such as ``8h``, ``90m`` or ``1d12h``; returns seconds.

    :raises ValueError: it is none, or it is zero.
    """
    parts = _PART.findall(text)
    total_s = sum(float(number) * _UNITS_S[unit] for number, unit in parts)
    if "".join(number + unit for number, unit in parts) != text or not total_s:
        raise ValueError(
            f"{text!r} is no duration; write a number and a unit (s, m, h, d), as in 8h or 1d12h"
        )
    return total_s
