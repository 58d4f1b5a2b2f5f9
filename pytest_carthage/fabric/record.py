"""The fabric's own log: what it says of itself, and what nobody had asked for."""

from __future__ import annotations

import os
import time

from pytest_carthage import clock


def write(text: str) -> None:
    """Write a line, with the time."""
    moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(clock.unix_s()))
    try:
        os.write(2, f"{moment} {text}\n".encode())
    except OSError:
        pass  # a full disk keeps nobody from going on
