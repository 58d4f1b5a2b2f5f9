"""The clocks of this machine, whatever a test makes of time in its process.

Tests freeze time or send it elsewhere (freezegun, time-machine, ``monkeypatch``): what waits by a
clock that stands waits for ever, and what is recorded is to carry the time at which it was. So time
is asked for here alone. What this reads is taken when it is imported, which is before any test, and
by functions that those leave alone.
"""

from __future__ import annotations

from time import CLOCK_BOOTTIME, CLOCK_MONOTONIC, CLOCK_REALTIME, clock_gettime

#: of clock_gettime(2): as CLOCK_REALTIME, as it was at the last tick; time-machine does not know it
_CLOCK_REALTIME_COARSE = 5
#: more than a tick of any kernel
_TICK_S = 0.1
_read = clock_gettime


def monotonic_s() -> float:
    """Seconds of a clock that nobody sets, from no particular moment."""
    return _read(CLOCK_MONOTONIC)


def boottime_s() -> float:
    """Seconds of a clock that nobody sets, and that goes on while this machine sleeps."""
    return _read(CLOCK_BOOTTIME)


def unix_s() -> float:
    """UNIX time; to a tick of the kernel while somebody has sent the process to another time."""
    coarse = _read(_CLOCK_REALTIME_COARSE)
    fine = _read(CLOCK_REALTIME)
    return fine if abs(fine - coarse) < _TICK_S else coarse


def unix_ns() -> int:
    """The same in nanoseconds."""
    return round(unix_s() * 1e9)
