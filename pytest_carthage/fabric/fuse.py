"""A file system of texts, each made anew when somebody opens it.

Whoever makes it answers the kernel, on a descriptor of ``/dev/fuse``. Sources: fuse(4), and the
kernel's ``uapi/linux/fuse.h``, of whose protocol this is what files take that are only read.
"""

from __future__ import annotations

import errno
import os
import stat
import struct
from collections.abc import Callable, Mapping
from typing import NamedTuple

from pytest_carthage.fabric import syscalls as sys_

DEVICE = "/dev/fuse"
#: the least that the kernel takes a read of
_MOST_BYTES = 8192
#: of the protocol, as of Linux 5.3
_VERSION = (7, 31)
_VALID_S = 3600
_DIRECT_IO = 1

_LOOKUP, _FORGET, _GETATTR, _OPEN, _READ, _RELEASE = 1, 2, 3, 14, 15, 18
_INIT, _DESTROY, _BATCH_FORGET = 26, 38, 42

#: length, operation, number, node; user, group and process
_IN = struct.Struct("=IIQQ16x")
_OUT = struct.Struct("=IiQ")
#: version, read-ahead and flags; requests in the background, bytes of a write, granularity of times
_INIT_OUT = struct.Struct("=IIII HHII 36x")
#: node, and how long that and its attributes are true
_ENTRY_OUT = struct.Struct("=QQQQII")
_ATTR_OUT = struct.Struct("=QII")
#: node, three of size, times; mode, links, owner, group, device, block size, flags
_ATTR = struct.Struct("=QQQ36x IIIIIII")
_OPEN_OUT = struct.Struct("=QII")
#: number of the open file, offset, size
_READ_IN = struct.Struct("=QQI")
_HANDLE_IN = struct.Struct("=Q")

_ROOT = 1


class _Request(NamedTuple):
    operation: int
    number: int
    node: int
    body: bytes


class Texts:
    """Texts by the names of their files, with ``owner`` as theirs.

    :raises OSError: the host has no such file systems.
    """

    def __init__(self, texts: Mapping[str, Callable[[], str]], *, owner: int) -> None:
        self._texts = dict(texts)
        #: nodes beside the root's
        self._nodes = {name: number for number, name in enumerate(texts, _ROOT + 1)}
        self._owner = owner
        #: what is open
        self._opened: dict[int, bytes] = {}
        self._last = 0
        self.fd = os.open(DEVICE, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)

    def close(self) -> None:
        """Have whoever reads a text be told that there is nobody any more."""
        os.close(self.fd)

    def answer(self) -> bool:
        """Answer a request; returns whether there may be more, as somebody has it mounted."""
        try:
            data = os.read(self.fd, _MOST_BYTES)
        except (BlockingIOError, InterruptedError):
            return True
        except OSError as error:
            return error.errno == errno.ENOENT  # who asked has gone away
        _, operation, number, node = _IN.unpack_from(data)
        request = _Request(operation, number, node, data[_IN.size :])
        if operation in (_FORGET, _BATCH_FORGET, _DESTROY):
            return True
        try:
            code, body = 0, self._answer_to(request)
        except OSError as error:
            code, body = -(error.errno or errno.EIO), b""
        try:
            os.write(self.fd, _OUT.pack(_OUT.size + len(body), code, number) + body)
        except OSError as error:
            return error.errno == errno.ENOENT
        return True

    def _answer_to(self, request: _Request) -> bytes:
        operation, _, node, body = request
        if operation == _INIT:
            return _INIT_OUT.pack(*_VERSION, 0, 0, 0, 0, _MOST_BYTES // 2, 1)
        if operation == _LOOKUP:
            name = body.rstrip(b"\0").decode(errors="replace")
            if node != _ROOT or name not in self._nodes:
                raise OSError(errno.ENOENT, name)
            number = self._nodes[name]
            return _ENTRY_OUT.pack(number, 0, _VALID_S, _VALID_S, 0, 0) + self._attributes(number)
        if operation == _GETATTR:
            return _ATTR_OUT.pack(_VALID_S, 0, 0) + self._attributes(node)
        if operation == _OPEN and node != _ROOT:
            self._last += 1
            self._opened[self._last] = self._text(node).encode()
            return _OPEN_OUT.pack(self._last, _DIRECT_IO, 0)
        if operation == _READ:
            handle, offset, size = _READ_IN.unpack_from(body)
            return self._opened[handle][offset : offset + size]
        if operation == _RELEASE:
            self._opened.pop(_HANDLE_IN.unpack_from(body)[0], None)
            return b""
        raise OSError(errno.ENOSYS, f"operation {operation}")

    def _text(self, node: int) -> str:
        return next(self._texts[name]() for name, number in self._nodes.items() if number == node)

    def _attributes(self, node: int) -> bytes:
        mode = stat.S_IFDIR | 0o555 if node == _ROOT else stat.S_IFREG | 0o444
        return _ATTR.pack(node, 0, 0, mode, 1, self._owner, self._owner, 0, 4096, 0)


def mount(fd: int, target: str) -> None:
    """Mount the texts behind a descriptor at a folder, which is made; nothing there is looked at.

    :raises OSError: the kernel refused, named in the message.
    """
    os.makedirs(target, exist_ok=True)
    flags = sys_.MS_RDONLY | sys_.MS_NOSUID | sys_.MS_NODEV | sys_.MS_NOEXEC
    options = f"fd={fd},rootmode={stat.S_IFDIR | 0o555:o},user_id=0,group_id=0,allow_other"
    sys_.mount("carthage", target, "fuse", flags, options)
