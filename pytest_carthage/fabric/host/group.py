"""Process groups of programs that we have started, ended without ever meaning another's.

A number is free for others as soon as its process has been waited for, and asyncio waits in a
thread of its own: who kills by number may hit whatever was started since. So a program is known
by a descriptor, see pidfd_open(2).
"""

from __future__ import annotations

import os
import signal

#: to all processes of the group (linux/pidfd.h, since Linux 6.9)
_PROCESS_GROUP = 1 << 2


class Group:
    """The process group that a program leads; closed when it is not needed any more."""

    def __init__(self, pid: int) -> None:
        """:param pid: the leader, which we have started just now."""
        self._pid = pid
        try:
            self._leader = os.pidfd_open(pid)
        except ProcessLookupError:
            self._leader = -1  # it has ended, and was waited for

    def kill(self) -> None:
        """Kill all of it; a group that is gone is left alone, whoever has its number now."""
        if self._leader < 0:
            return
        try:
            try:
                signal.pidfd_send_signal(self._leader, signal.SIGKILL, None, _PROCESS_GROUP)
            except OSError as error:
                if isinstance(error, (ProcessLookupError, PermissionError)):
                    raise
                # an older kernel: while its leader was not waited for, the number is its own
                signal.pidfd_send_signal(self._leader, 0)
                os.killpg(self._pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass

    def close(self) -> None:
        """Let go of it."""
        if self._leader >= 0:
            os.close(self._leader)
            self._leader = -1
