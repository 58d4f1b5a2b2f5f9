"""Files of a machine or an image, read by who must not wait for what they are.

Whoever is root there may put a pipe that nobody writes to, or one of the kernel's devices, where a
file is looked for. To open the one, or to read the other to its end, takes for ever.
"""

from __future__ import annotations

import errno
import os
import stat

__all__ = ["MOST_BYTES", "read"]

#: what is longer is no list of users
MOST_BYTES = 16 << 20


def read(path: str | os.PathLike[str], most_bytes: int = MOST_BYTES) -> bytes:
    """What a file holds.

    :raises OSError: it is not there, no regular file, or longer than that; named in the message.
    """
    name = os.fspath(path)
    fd = os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        info = os.fstat(fd)
        if not stat.S_ISREG(info.st_mode):
            raise OSError(errno.EINVAL, f"{stat.filemode(info.st_mode)}, and no regular file", name)
        parts = []
        left = most_bytes
        while data := os.read(fd, min(left + 1, 1 << 20)):
            left -= len(data)
            if left < 0:
                text = f"it is longer than {most_bytes} bytes"
                raise OSError(errno.EFBIG, text, name)
            parts.append(data)
        return b"".join(parts)
    finally:
        os.close(fd)
