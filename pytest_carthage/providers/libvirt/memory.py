"""Memory that was saved, given to another domain: a file as libvirt saves it, with other XML.

libvirt restores a domain under the name and with the disks that the file's own XML says. So what
it reads is a pipe: XML of the domain that is to be, and then what QEMU has saved.

Most of that are the pages of the machine's main memory. They are taken out, into a file that QEMU
maps for each machine that is restored: it has the pages that it reads, and copies of those that it
writes, so that nothing waits for all of them.

Source: ``virQEMUSaveHeader`` in libvirt's src/qemu/qemu_saveimage.h; for what QEMU writes
``ram_save_setup`` and ``ram_save_page_header`` in its migration/ram.c.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import re
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

__all__ = ["Saved", "backed", "restore", "take_out"]

_MAGIC = b"LibvirtQemudSave"
_VERSION = 2
#: magic, version, length of what is behind it, whether it ran, compression, where the cookie is
_HEADER = struct.Struct("<16s5I14I")
_ALIGNED = 1 << 16
_PIPE = 1 << 20
_F_SETPIPE_SZ = 1031
_QEMU = "http://libvirt.org/schemas/domain/qemu/1.0"

#: what QEMU calls the main memory of a machine here, in which it is found among others
_NAME = "carthage.ram"
_BACKEND = f",id={_NAME},"
_MACHINE = f"memory-backend={_NAME}"
# see migration/qemu-file.h and migration/ram.c
_SECTION_PART, _SECTION_END, _FOOTER = 0x02, 0x03, 0x7E
_ZERO, _SIZES, _PAGE, _EOS, _CONTINUE = 0x02, 0x04, 0x08, 0x10, 0x20
_PAGE_BYTES = 4096
#: where the section of memory begins: its number, name, instance and version
_RAM = re.compile(rb"\x01(....)\x03ram\x00{4}\x00\x00\x00\x04", re.DOTALL)
#: within which it does
_BEFORE_RAM = 1 << 16


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


def backed(xml: str, size_mib: int, file: Path | None = None) -> str:
    """Have the main memory of a domain be one that :func:`take_out` finds.

    :param file: what it begins with, which is not written to; None: it begins empty.
    """
    root = ElementTree.fromstring(xml)
    line = root.find(f"{{{_QEMU}}}commandline")
    if line is None:
        line = ElementTree.SubElement(root, f"{{{_QEMU}}}commandline")
    for element in list(line):
        value = element.get("value", "")
        if _BACKEND in value or value == _MACHINE:
            at = list(line).index(element)
            line.remove(line[at - 1])
            line.remove(element)
    kind, more = "ram", ""
    if file is not None:
        kind, more = "file", f",share=off,mem-path={str(file).replace(',', ',,')}"
    backend = f"memory-backend-{kind}{_BACKEND}size={size_mib}M{more}"
    for argument in ("-object", backend, "-machine", _MACHINE):
        ElementTree.SubElement(line, f"{{{_QEMU}}}arg", value=argument)
    return ElementTree.tostring(root, encoding="unicode")


def take_out(path: Path, ram: Path) -> None:
    """Take the pages of the main memory out of a file that libvirt has saved, into another one.

    :raises OSError: one of them cannot be read or written.
    :raises ValueError: QEMU has not saved that, or it did so in another way.
    """
    saved = Saved.read(path)
    new = path.with_name(f"{path.name}.new")
    with (
        path.open("rb") as file,
        new.open("wb") as rest,
        ram.open("wb") as pages,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
    ):
        rest.write(data[: saved.offset])
        try:
            for begin, end in _without_pages(data, saved.offset, pages.fileno()):
                rest.write(data[begin:end])
        except (struct.error, IndexError) as error:
            raise ValueError(f"{path}: its memory ends too early") from error
    new.replace(path)


def _without_pages(data: mmap.mmap, offset: int, pages: int) -> Iterator[tuple[int, int]]:
    """What is not the main memory's, from where to where; the pages of that are written."""
    found = _RAM.search(data[offset : offset + _BEFORE_RAM])
    if found is None:
        raise ValueError("QEMU's memory does not begin where it should")
    section = found[1]
    name, at = b"", offset + found.end()
    yield offset, at
    while True:
        begin = at
        while True:
            (head,) = struct.unpack_from(">Q", data, at)
            address, flags = head & -_PAGE_BYTES, head & (_PAGE_BYTES - 1)
            record, at = at, at + 8
            if flags & _EOS:
                break
            if flags & _SIZES:
                at = _sizes(data, at, address, pages)
                continue
            if not flags & _CONTINUE:
                name = data[at + 1 : at + 1 + data[at]]
                at += 1 + len(name)
            if not flags & (_PAGE | _ZERO):
                raise ValueError(f"pages of QEMU's memory have flags {flags:#x}")
            page, at = at, at + (_PAGE_BYTES if flags & _PAGE else 1)
            if name.decode(errors="replace").rpartition("/")[2] == _NAME:
                yield begin, record
                begin = at
                if flags & _PAGE:
                    os.pwrite(pages, data[page:at], address)
        if data[at] == _FOOTER:
            at += 5
        # of another section, all that follows is others'
        is_ours = data[at] in (_SECTION_PART, _SECTION_END) and data[at + 1 : at + 5] == section
        at = at + 5 if is_ours else len(data)
        yield begin, at
        if not is_ours:
            break


def _sizes(data: mmap.mmap, at: int, total: int, pages: int) -> int:
    """Take in how large each memory is; returns where that ends."""
    while total > 0:
        name = data[at + 1 : at + 1 + data[at]].decode(errors="replace")
        at += 1 + data[at]
        (size,) = struct.unpack_from(">Q", data, at)
        at, total = at + 8, total - size
        if name.rpartition("/")[2] == _NAME:
            os.ftruncate(pages, size)
    return at


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
