"""Prints what answers at ``host:port``, at a path, or at an abstract socket (``@name``)."""

from __future__ import annotations

import socket
import sys


def look(to: str) -> str:
    try:
        if to[0] in "/@":
            sock = socket.socket(socket.AF_UNIX)
            sock.settimeout(5)
            sock.connect(to.replace("@", "\0"))
        else:
            host, _, port = to.rpartition(":")
            sock = socket.create_connection((host, int(port)), 5)
        sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
        with sock.makefile("rb") as answer:
            return answer.read().decode().split()[-1]
    except OSError as error:
        return f"refused: {error}"


if __name__ == "__main__":
    print(look(sys.argv[1]))
