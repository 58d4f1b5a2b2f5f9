"""A ProxyCommand of ssh(1): carries its standard input and output to who answers for machines.

``python -I -S knock.py FOLDER MACHINE`` with the folder ``ssh`` of an environment. Who answers is
started by the first one who comes, see :mod:`.porter`.

It is run anew for each connection, so nothing is imported that takes longer than to connect.
"""

from __future__ import annotations

import _thread
import json
import os
import socket
import sys

TYPE_CHECKING = False  # typing costs more than all the rest
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["SOCKET", "START", "main"]

#: where the porter listens
SOCKET = "porter.sock"
#: how it is started: ``argv``, the ``environment``, and the socket of its ``supervisor``
START = "porter.json"
_LOG = "porter.log"
_PIECE = 1 << 18
#: bytes that a pipe may hold for whoever is no administrator, see pipe(7)
_PIPE = 1 << 20


class _Refused(Exception):
    """There is no way in; the message says why."""


def main(argv: list[str]) -> int:
    """Connect, and carry until either side is gone; returns the exit status."""
    folder, machine = argv
    try:
        sock = _reach(folder)
        try:
            sock.sendall(json.dumps({"machine": machine}).encode() + b"\n")
            refusal = _line(sock)
        except (BrokenPipeError, ConnectionResetError):
            refusal = _last_words()
    except (_Refused, OSError) as error:
        refusal = str(error)
    if refusal:
        sys.stderr.write(f"pytest-carthage: {refusal}\n")
        return 1
    _widen(0)
    _thread.start_new_thread(_carry, (0, sock.fileno(), lambda: sock.shutdown(socket.SHUT_WR)))
    _carry(sock.fileno(), 1, lambda: None)
    return 0


def _widen(fd: int) -> None:
    """Have a pipe hold all that a client may send at once.

    Some (paramiko with gevent) lose what does not fit.
    """
    import fcntl

    try:
        fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, _PIPE)
    except OSError:
        pass  # it is none, or the user has too many


def _carry(source: int, target: int, ended: Callable[[], None]) -> None:
    try:
        while data := os.read(source, _PIECE):
            view = memoryview(data)
            while view:
                view = view[os.write(target, view) :]
    except OSError:
        pass  # one of both has gone
    try:
        ended()
    except OSError:
        pass


def _line(sock: socket.socket) -> str:
    """What is said before ssh's own words: nothing, or why there is no way in."""
    data = b""
    while not data.endswith(b"\n"):
        piece = sock.recv(1)
        if not piece:
            raise _Refused(_last_words())
        data += piece
    return data.decode(errors="replace").rstrip("\n")


def _last_words() -> str:
    """Why the porter has gone without a word; the folder is the current one."""
    try:
        with open(_LOG, errors="replace") as log:
            said = log.read().strip().splitlines()
    except OSError:
        said = []
    words = said[-1] if said else "it said nothing"
    return f"who answers ssh for this environment has ended: {words}; log: {os.getcwd()}/{_LOG}"


def _reach(folder: str) -> socket.socket:
    """A connection to the porter, who is started where there is none.

    :raises _Refused: there is no such environment any more.
    """
    try:
        os.chdir(folder)  # its path may be longer than an address of a socket, see unix(7)
    except OSError as error:
        raise _Refused(
            f"no environment in {folder}: {error.strerror}; see `pytest-carthage ls`, and write "
            "its configuration anew with `pytest-carthage ssh-config`"
        ) from error
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.connect(SOCKET)
    except (FileNotFoundError, ConnectionRefusedError):
        _start_alone(sock)
    return sock


def _start_alone(sock: socket.socket) -> None:
    """Connect to the porter, and start it unless somebody else was faster."""
    import fcntl

    lock = os.open("lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            sock.connect(SOCKET)
        except (FileNotFoundError, ConnectionRefusedError):
            _start()
            sock.connect(SOCKET)
    finally:
        os.close(lock)


def _start() -> None:
    """Have the supervisor start the porter, which takes over a socket that listens already.

    :raises _Refused: it does not.
    """
    here = os.path.dirname(os.path.realpath(__file__))
    sys.path.append(os.path.dirname(os.path.dirname(here)))
    from pytest_carthage.fabric.wire import client, frames

    with open(START) as file:
        start = json.load(file)
    try:
        os.unlink(SOCKET)
    except FileNotFoundError:
        pass
    folder = os.getcwd()
    try:
        with (
            frames.listen(f"{folder}/{SOCKET}") as listener,
            client.connect(start["supervisor"]) as supervisor,
        ):
            supervisor.request(
                "deputy",
                fds=(listener.fileno(),),
                environment=start["environment"],
                argv=start["argv"],
                env={},
                log=f"{folder}/{_LOG}",
            )
    except (OSError, client.Refused) as error:
        os.unlink(SOCKET)
        raise _Refused(
            f"environment {start['environment']!r}: its supervisor does not answer: {error}; "
            "see `pytest-carthage ls`"
        ) from error


if __name__ == "__main__":
    os._exit(main(sys.argv[1:]))
