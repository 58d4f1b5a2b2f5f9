"""Archives in the new portable format, as the kernel unpacks them: an initrd is one."""

from __future__ import annotations

import stat

__all__ = ["Cpio"]


class Cpio:
    """An archive in the new portable format, as the kernel unpacks it."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._number = 0

    def add(
        self, name: str, mode: int, data: bytes = b"", device: tuple[int, int] = (0, 0)
    ) -> None:
        """Add an entry."""
        self._number += 1
        path = name.encode() + b"\0"
        links = 2 if stat.S_ISDIR(mode) else 1
        fields = (self._number, mode, 0, 0, links, 0, len(data), 0, 0, *device, len(path), 0)
        self._data += b"070701" + b"".join(b"%08X" % field for field in fields) + path
        self._pad()
        self._data += data
        self._pad()

    def end(self) -> bytes:
        """The whole archive."""
        self.add("TRAILER!!!", 0)
        return bytes(self._data)

    def _pad(self) -> None:
        self._data += bytes(-len(self._data) % 4)
