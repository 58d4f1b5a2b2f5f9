"""A blocking client of a fabric or an agent, for other processes: command line, Ansible."""

from __future__ import annotations

import os
import selectors
import signal
import time
from typing import TYPE_CHECKING, Any

from pytest_carthage.fabric import wire

if TYPE_CHECKING:
    import socket
    from collections.abc import Mapping, Sequence


class Refused(Exception):
    """The other end refused a request; ``errno`` when the kernel gave one."""

    def __init__(self, message: str, errno: int | None = None) -> None:
        super().__init__(message)
        self.errno = errno


class Client:
    """One connection; not for use by several threads at once."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._next = 0

    def close(self) -> None:
        """Close the connection."""
        self._sock.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def send(self, op: str, /, *, fds: Sequence[int] = (), **fields: object) -> int:
        """Send a request; returns its number, for :meth:`receive`."""
        self._next += 1
        wire.send(self._sock, {"id": self._next, "op": op, **fields}, fds)
        return self._next

    def receive(self) -> tuple[dict[str, Any], list[int]]:
        """Receive the next reply.

        :raises Refused: it is a refusal.
        """
        reply, fds = wire.receive(self._sock)
        if not reply.get("ok"):
            raise Refused(str(reply.get("error")), reply.get("errno"))
        return reply, fds

    def request(
        self, op: str, /, *, fds: Sequence[int] = (), **fields: object
    ) -> tuple[dict[str, Any], list[int]]:
        """Ask and wait for the answer.

        :raises Refused: with the reason.
        :raises pytest_carthage.fabric.wire.Closed: the other end is gone.
        """
        self.send(op, fds=fds, **fields)
        return self.receive()

    def fileno(self) -> int:
        """The connection's descriptor, to wait for a reply."""
        return self._sock.fileno()

    def run(
        self,
        argv: Sequence[str],
        *,
        user: str | None = None,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        input: bytes | None = None,
        timeout_s: float | None = None,
    ) -> tuple[int, bytes, bytes]:
        """Run a command to its end; returns exit status, stdout, stderr.

        :raises TimeoutError: it did not end in time; it was killed.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        in_read, in_write = os.pipe()
        out_read, out_write = os.pipe()
        err_read, err_write = os.pipe()
        ours = [in_write, out_read, err_read]
        selector = selectors.DefaultSelector()
        try:
            try:
                reply, _ = self.request(
                    "run",
                    fds=(in_read, out_write, err_write),
                    argv=list(argv),
                    user=user,
                    cwd=cwd,
                    env=dict(env or {}),
                )
            finally:
                for fd in (in_read, out_write, err_write):
                    os.close(fd)
            job = reply["job"]
            self.send("wait", job=job)
            collected: dict[int, list[bytes]] = {out_read: [], err_read: []}
            selector.register(self._sock, selectors.EVENT_READ)
            for fd in collected:
                selector.register(fd, selectors.EVENT_READ)
            pending = memoryview(input or b"")
            if pending:
                os.set_blocking(in_write, False)
                selector.register(in_write, selectors.EVENT_WRITE)
            else:
                os.close(in_write)
                ours.remove(in_write)
            status: int | None = None
            while True:
                if status is not None:
                    # output of the ended command is there already; what a process that it
                    # left behind may still print is not waited for
                    wait: float | None = 0.05
                else:
                    wait = None if deadline is None else max(0.0, deadline - time.monotonic())
                ready = selector.select(wait)
                if not ready and status is None:
                    self.send("kill", job=job, signal=int(signal.SIGKILL))
                    raise TimeoutError(f"no end after {timeout_s:g} s")
                for key, _ in ready:
                    if key.fileobj is self._sock:
                        status = int(self.receive()[0]["status"])
                        selector.unregister(self._sock)
                    elif key.fd == in_write:
                        try:
                            pending = pending[os.write(in_write, pending) :]
                        except BlockingIOError:
                            continue
                        except BrokenPipeError:
                            pending = memoryview(b"")
                        if not pending:
                            selector.unregister(in_write)
                            os.close(in_write)
                            ours.remove(in_write)
                    else:
                        data = os.read(key.fd, 1 << 16)
                        if data:
                            collected[key.fd].append(data)
                        else:
                            selector.unregister(key.fd)
                if status is not None and (not ready or not selector.get_map()):
                    return status, b"".join(collected[out_read]), b"".join(collected[err_read])
        finally:
            selector.close()
            for fd in ours:
                os.close(fd)


def connect(socket_path: str, machine: str | None = None) -> Client:
    """Connect to a fabric, or through it to a machine's agent.

    :raises Refused: there is no such machine, or its agent is gone.
    :raises OSError: there is no such fabric.
    """
    client = Client(wire.connect(socket_path))
    if machine is not None:
        try:
            client.request("channel", machine=machine)
        except BaseException:
            client.close()
            raise
    return client
