"""What programs find of the first process of a machine over the host's files: where it prints to.

That process has memory of the host's, and may not be looked into. Programs open its output all the
same, as ``/proc/1/fd/1``.
"""

from __future__ import annotations

import os

from pytest_carthage.fabric import syscalls as sys_

_FOLDER = "/run/.carthage"


class Output:
    """The log of a machine, made while its file system is still the host's, and shown later."""

    def __init__(self, log: str) -> None:
        # by a descriptor: other files may be mounted over its folder soon
        self._log = os.open(log, os.O_PATH | os.O_CLOEXEC)

    def show(self) -> None:
        """Have it be the output of the calling process, for whoever looks.

        :raises OSError: the kernel refused a mount, named in the message.
        """
        path = f"{_FOLDER}/output"
        os.makedirs(f"{_FOLDER}/fd")
        with open(path, "w"):
            pass
        sys_.mount(f"/proc/self/fd/{self._log}", path, None, sys_.MS_BIND)
        sys_.set_mount(path, clear=sys_.ATTR_RDONLY)
        os.close(self._log)
        for number, target in enumerate(("/dev/null", path, path)):
            os.symlink(target, f"{_FOLDER}/fd/{number}")
        sys_.mount(f"{_FOLDER}/fd", "/proc/1/fd", None, sys_.MS_BIND)
