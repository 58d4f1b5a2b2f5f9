"""What asks a machine's main process to end."""

from __future__ import annotations

import re
import signal

__all__ = ["signal_number"]


def signal_number(name: str) -> int:
    """Number of a signal as images say it: ``"SIGQUIT"``, ``"QUIT"``, ``"3"``, ``"SIGRTMIN+3"``.

    :raises ValueError: there is no such signal.
    """
    match = re.fullmatch(r"(?:SIG)?([A-Z][A-Z0-9]*)(?:\+(\d+))?|(\d+)", name.strip().upper())
    if match is not None and match[3]:
        return int(match[3])
    known = None if match is None else signal.Signals.__members__.get(f"SIG{match[1]}")
    if match is None or known is None:
        raise ValueError(f"STOPSIGNAL {name!r} of its image is no signal")
    return known + int(match[2] or 0)
