"""Times and durations as people read them."""

from __future__ import annotations

from datetime import datetime

__all__ = ["clock", "iso", "seconds"]


def seconds(duration_s: float) -> str:
    """Write a duration: ``0.31 s``, ``12 s``, ``2 min 05 s``."""
    if duration_s < 10:
        return f"{duration_s:.2f} s"
    if duration_s < 60:
        return f"{duration_s:.0f} s"
    minutes, rest = divmod(round(duration_s), 60)
    return f"{minutes} min {rest:02d} s"


def clock(at_s: float) -> str:
    """Write a UNIX time as the time of day here: ``14:03:01.250``."""
    return datetime.fromtimestamp(at_s).strftime("%H:%M:%S.%f")[:-3]


def iso(at_s: float) -> str:
    """Write a UNIX time as ISO 8601, to the millisecond and with the offset that is here."""
    return datetime.fromtimestamp(at_s).astimezone().isoformat(timespec="milliseconds")
