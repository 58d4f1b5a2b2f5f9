"""What libvirt carries to a machine's ports, at sockets of this process."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["bridge", "send_file"]

_PIECE = 1 << 16


def bridge(stream: Any, sock: socket.socket) -> list[threading.Thread]:
    """Carry what is sent either way between a virStream and a socket, until one of them ends.

    Both are closed then. Returns the threads that do it.
    """

    def there() -> None:
        with contextlib.suppress(Exception):
            while data := sock.recv(_PIECE):
                while data:
                    data = data[stream.send(data) :]
        with contextlib.suppress(Exception):
            stream.abort()
        _shut(sock)

    def here() -> None:
        with contextlib.suppress(Exception):
            while data := stream.recv(_PIECE):
                sock.sendall(data)
        _shut(sock)

    threads = [threading.Thread(target=each, daemon=True) for each in (there, here)]
    for thread in threads:
        thread.start()

    def close() -> None:
        for thread in threads:
            thread.join()
        sock.close()

    threading.Thread(target=close, daemon=True).start()
    return threads


def _shut(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)


def send_file(stream: Any, path: Path) -> None:
    """Send a file, and end."""
    try:
        with path.open("rb") as file:
            while data := file.read(_PIECE):
                while data:
                    data = data[stream.send(data) :]
        stream.finish()
    except BaseException:
        with contextlib.suppress(Exception):
            stream.abort()
        raise
