"""What the bytes of a tar go into: a hash, a file, a gzip member, each in a thread of its own."""

from __future__ import annotations

import functools
import os
import queue
import threading
import zlib
from collections.abc import Callable, Sequence

__all__ = ["ZEROS", "Gzip", "Sink", "write_all"]

_CHUNK = 1 << 20
_DICTIONARY = 32 << 10  # as much as deflate looks back, see RFC 1951
_LEVEL = 6
#: a chunk of a hole: this object and no other is known for what it is
ZEROS = bytes(_CHUNK)
_BEFORE = ZEROS[:_DICTIONARY]


class Sink:
    """Takes bytes in a thread of its own, in order: both hashing and writing let others run."""

    def __init__(self, take: Callable[[bytes], object]) -> None:
        self._take = take
        self._queue: queue.Queue[bytes | None] = queue.Queue(8)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def _work(self) -> None:
        while (data := self._queue.get()) is not None:
            if self._error is None:
                try:
                    self._take(data)
                except BaseException as error:  # raised again by whoever feeds it
                    self._error = error

    def put(self, data: bytes) -> None:
        """Hand over bytes.

        :raises OSError: those before could not be written.
        """
        if self._error is not None:
            raise self._error
        self._queue.put(data)

    def close(self) -> None:
        """Wait until all is done.

        :raises OSError: not all could be written.
        """
        self._queue.put(None)
        self._thread.join()
        if self._error is not None:
            raise self._error


class Gzip:
    """One gzip member of what is put in, compressed by all processors; see RFC 1952."""

    def __init__(self, out: Callable[[bytes], object]) -> None:
        from concurrent.futures import Future, ThreadPoolExecutor

        self._out = out
        self._workers = os.cpu_count() or 1
        self._pool = ThreadPoolExecutor(self._workers)
        self._pending: list[Future[bytes]] = []
        self._rest = bytearray()
        self._before = b""
        self._crc = 0
        self._size = 0
        out(b"\x1f\x8b\x08\0\0\0\0\0\0\xff")

    def put(self, data: bytes) -> None:
        """Compress bytes, when there are enough."""
        self._size += len(data)
        if data is ZEROS:  # of a hole there may be very many
            self._crc = _crc_of_zeros(self._crc)
            if self._rest:
                self._start(bytes(self._rest), zlib.Z_SYNC_FLUSH)
                self._rest.clear()
            self._start(data, zlib.Z_SYNC_FLUSH)
            return
        self._crc = zlib.crc32(data, self._crc)
        self._rest += data
        while len(self._rest) >= _CHUNK:
            self._start(bytes(self._rest[:_CHUNK]), zlib.Z_SYNC_FLUSH)
            del self._rest[:_CHUNK]

    def _start(self, data: bytes, flush: int) -> None:
        if data is ZEROS and self._before is _BEFORE:
            self._pending.append(self._pool.submit(_deflated_zeros))
        else:
            self._pending.append(self._pool.submit(_deflate, data, self._before, flush))
        self._before = _BEFORE if data is ZEROS else data[-_DICTIONARY:]
        while len(self._pending) > 2 * self._workers:
            self._out(self._pending.pop(0).result())

    def close(self) -> None:
        """End the member."""
        self._start(bytes(self._rest), zlib.Z_FINISH)
        for block in self._pending:
            self._out(block.result())
        self._pool.shutdown()
        self._out(self._crc.to_bytes(4, "little") + (self._size & 0xFFFFFFFF).to_bytes(4, "little"))


@functools.cache
def _deflated_zeros() -> bytes:
    """A chunk of zeros after zeros, compressed."""
    return _deflate(ZEROS, _BEFORE, zlib.Z_SYNC_FLUSH)


@functools.cache
def _steps() -> tuple[int, Sequence[int]]:
    """What a chunk of zeros makes of a checksum of nothing, and of each bit of one."""
    start = zlib.crc32(ZEROS, 0)
    return start, [zlib.crc32(ZEROS, 1 << bit) ^ start for bit in range(32)]


def _crc_of_zeros(crc: int) -> int:
    """The checksum with a chunk of zeros more: it is linear in each bit of that before."""
    now, of_bits = _steps()
    for bit, change in enumerate(of_bits):
        if crc >> bit & 1:
            now ^= change
    return now


def _deflate(data: bytes, before: bytes, flush: int) -> bytes:
    worker = zlib.compressobj(_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS, zdict=before)
    return worker.compress(data) + worker.flush(flush)


def write_all(fd: int, data: bytes) -> None:
    """Write all of it to a descriptor."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
