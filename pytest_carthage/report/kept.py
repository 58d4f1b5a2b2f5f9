"""How long an environment stays, in words."""

from __future__ import annotations

import time

from pytest_carthage import clock

__all__ = ["age", "expiry"]


def expiry(*, kept: bool, expires_at: float | None, now_s: float | None = None) -> str:
    """Say how long an environment stays.

    :param expires_at: UNIX time at which it is removed; None: never.
    """
    if not kept:
        return "ends with its owner"
    if expires_at is None:
        return "stays until it is removed"
    left_s = max(0.0, expires_at - (clock.unix_s() if now_s is None else now_s))
    until = time.strftime("%a %H:%M", time.localtime(expires_at))
    return f"stays for {age(left_s)} (until {until})"


def age(duration_s: float) -> str:
    """Write a long duration in its two largest units: ``7 h 59 min``, ``12 s``."""
    rest_s = max(0, round(duration_s))
    parts = []
    for unit, size_s in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        count, rest_s = divmod(rest_s, size_s)
        if count:
            parts.append(f"{count} {unit}")
        elif parts:
            break
    return " ".join(parts[:2]) or "0 s"
