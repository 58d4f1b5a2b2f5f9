"""Memory that was saved, given to another domain: a file as libvirt saves it, with other XML.

libvirt restores a domain under the name and with the disks that the file's own XML says. So what
it reads is a pipe: XML of the domain that is to be, and then the memory as it was saved.

Source: ``virQEMUSaveHeader`` in libvirt's src/qemu/qemu_saveimage.h.
"""

from __future__ import annotations

import contextlib
import os
import struct
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Saved", "restore"]

_MAGIC = b"LibvirtQemudSave"
_VERSION = 2
#: magic, version, length of what is behind it, whether it ran, compression, where the cookie is
_HEADER = struct.Struct("<16s5I14I")
_ALIGNED = 1 << 16
_PIPE = 1 << 20
_F_SETPIPE_SZ = 1031


@dataclass(frozen=True, slots=True)
class Saved:
    """Memory in a file that libvirt has saved."""

    path: Path
    #: where what QEMU has written begins
    offset: int
    #: what libvirt has to know beside the XML
    cookie: bytes

    @classmethod
    def read(cls, path: Path) -> Saved:
        """Read what is said of it.

        :raises OSError: it cannot be read.
        :raises ValueError: libvirt has not saved that, or it did so in another way.
        """
        with path.open("rb") as file:
            head = file.read(_HEADER.size)
            if len(head) < _HEADER.size:
                raise ValueError(f"{path}: it ends before its memory begins")
            magic, version, length, _, compression, cookie, *_ = _HEADER.unpack(head)
            if magic != _MAGIC or version != _VERSION:
                raise ValueError(f"{path}: no memory that libvirt has saved in version {_VERSION}")
            if compression:
                raise ValueError(f"{path}: its memory is compressed, and it should not be")
            data = file.read(length)
        if len(data) < length:
            raise ValueError(f"{path}: it ends before its memory begins")
        return cls(path, _HEADER.size + length, data[cookie:].rstrip(b"\0") if cookie else b"")

    def head(self, xml: str) -> bytes:
        """What comes before the memory, for a domain that runs and is described like this."""
        text = xml.encode() + b"\0"
        data = text + self.cookie + b"\0"
        data += bytes(-len(data) % _ALIGNED)
        cookie = len(text) if self.cookie else 0
        fields = (_VERSION, len(data), 1, 0, cookie)
        return _HEADER.pack(_MAGIC, *fields, *[0] * 14) + data


def restore(libvirt: Any, connection: Any, saved: Saved, xml: str, pipe: Path) -> None:
    """Have a domain run, described like this, with memory that was saved.

    :param pipe: where one can be made for the time that it takes.
    :raises OSError: the memory cannot be read.
    """
    os.mkfifo(pipe, 0o600)
    feeding = _Feeding(saved, saved.head(xml), pipe)
    try:
        try:
            connection.restoreFlags(str(pipe), None, libvirt.VIR_DOMAIN_SAVE_RUNNING)
        finally:
            feeding.end()
    finally:
        pipe.unlink()


class _Feeding:
    """Writes into a pipe, in a thread, until all is written or nobody reads any more."""

    def __init__(self, saved: Saved, head: bytes, pipe: Path) -> None:
        self._saved, self._head, self._pipe = saved, head, pipe
        self._error: OSError | None = None
        self._thread = threading.Thread(target=self._feed, name="libvirt-memory", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Return when nothing is written any more.

        :raises OSError: what was to be written could not be read.
        """
        while self._thread.is_alive():
            # who waits for a reader has had one, which is gone
            with contextlib.suppress(OSError):
                os.close(os.open(self._pipe, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))
            self._thread.join(0.01)
        if self._error is not None:
            raise self._error

    def _feed(self) -> None:
        try:
            source = os.open(self._saved.path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            self._error = error
            return
        try:
            sink = os.open(self._pipe, os.O_WRONLY | os.O_CLOEXEC)
            try:
                self._copy(source, sink)
            finally:
                os.close(sink)
        except BrokenPipeError:
            pass  # whoever read it says why it does not any more
        except OSError as error:
            self._error = error
        finally:
            os.close(source)

    def _copy(self, source: int, sink: int) -> None:
        import fcntl

        with contextlib.suppress(OSError):  # more than an ordinary user may have
            fcntl.fcntl(sink, _F_SETPIPE_SZ, _PIPE)
        left = memoryview(self._head)
        while left:
            left = left[os.write(sink, left) :]
        offset, end = self._saved.offset, os.fstat(source).st_size
        while offset < end:
            sent = os.sendfile(sink, source, offset, end - offset)
            if not sent:
                break
            offset += sent
