"""What is to be seen of this machine, as the kernel tells it; the deputy makes sense of it."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

from pytest_carthage.fabric.holding import holders

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from typing import Any

    from pytest_carthage.channels.far.inside.streams import Streams

_MOST = 4 << 20


def _content(path: str) -> str | None:
    """A text of the kernel's, or a short file; None: it is not there, or no file."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    parts, left = [], _MOST
    try:
        while left > 0:
            data = os.read(fd, 1 << 16)
            if not data:
                break
            parts.append(data)
            left -= len(data)
    except OSError:
        return None
    finally:
        os.close(fd)
    return b"".join(parts).decode("utf-8", "surrogateescape")


def look(message: Mapping[str, Any]) -> dict[str, Any]:
    """Contents of files, or null each."""
    return {"contents": [_content(path) for path in message["paths"]]}


def processes(message: Mapping[str, Any]) -> dict[str, Any]:
    """Of all processes: number, user's number, stat, cmdline, see proc(5); and how it is called."""
    rows = []
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            uid = os.stat("/proc/" + name).st_uid
        except OSError:
            continue  # it ended meanwhile
        status, line = _content("/proc/" + name + "/stat"), _content("/proc/" + name + "/cmdline")
        if status is not None and line is not None:
            rows.append([int(name), uid, status, line])
    return {"hostname": socket.gethostname(), "rows": rows, "page": os.sysconf("SC_PAGE_SIZE")}


def far_holders(streams: Streams, numbers: Collection[int]) -> list[dict[str, Any]]:
    """Processes that have the far end of a stream's pipe open, see ``fabric.observe.holders``."""
    sources = [streams.sources.get(number) for number in numbers]
    inodes = [os.fstat(source.fd).st_ino for source in sources if source and source.fd >= 0]
    return holders(inodes) if inodes else []
