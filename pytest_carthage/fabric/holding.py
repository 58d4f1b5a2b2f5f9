"""Who holds the far end of a pipe.

The agent far away has this, too, as a part of its program: it is of a Python as old as that one.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection
    from typing import Any

__all__ = ["holders"]


def holders(inodes: Collection[int]) -> list[dict[str, Any]]:
    """Processes that can write to any of these pipes: pid, args, is_piped, is_ending.

    Whether they read from a pipe themselves, and whether they read from nothing any more.
    """
    pipes = {f"pipe:[{inode}]" for inode in inodes}
    found = []
    for name in os.listdir("/proc"):
        if not name.isdecimal() or int(name) == os.getpid():
            continue
        try:
            links = {
                fd: os.readlink(f"/proc/{name}/fd/{fd}") for fd in os.listdir(f"/proc/{name}/fd")
            }
            if pipes.isdisjoint(links.values()):
                continue
            with open(f"/proc/{name}/cmdline", "rb") as file:
                args = file.read().rstrip(b"\0").replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue  # it has ended, or is not to be looked into
        found.append(
            {
                "pid": int(name),
                "args": args or "?",
                "is_piped": links.get("0", "").startswith("pipe:"),
                # cat(1) and others close their input first
                "is_ending": "0" not in links,
            }
        )
    return found
