"""The environment of who has started a run, which only providers get to see.

What outlives a fabric may need it to be destroyed: where an engine's socket is, keys of a cloud.
Machines must not find it. So it is no part of the supervisor's own environment or memory, of which
fabrics and agents are copies: it is in a file without a name, which they do not have.

Standard library only: the supervisor is a lean process.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping

__all__ = ["Starter", "bequeath", "environment"]

#: what the supervisor itself has of it: where runs are, and where the user's systemd is, which
#: gives control groups
_KEPT = ("CARTHAGE_STATE", "XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS")
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def environment() -> dict[str, str]:
    """What a supervisor is started with: nothing that is its starter's business."""
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    return {"PATH": _PATH, "LANG": "C.UTF-8", **kept}


def bequeath(more: Mapping[str, str]) -> int:
    """Put this process's environment, and ``more``, where a supervisor finds it: a descriptor."""
    fd = os.memfd_create("environment", os.MFD_CLOEXEC)
    with os.fdopen(fd, "w", closefd=False) as file:
        json.dump({**os.environ, **more}, file)
    return fd


class Starter:
    """The other end of :func:`bequeath`."""

    def __init__(self, descriptor: int) -> None:
        #: no child is to have it that is not to see the environment
        self.descriptor = descriptor
        os.set_inheritable(descriptor, False)

    def environment(self) -> dict[str, str]:
        """The environment, for a process whose memory machines have no copy of."""
        size = os.fstat(self.descriptor).st_size
        kept: dict[str, str] = json.loads(os.pread(self.descriptor, size, 0))
        return kept
