"""A blocking client of a fabric or an agent, for other processes: command line, Ansible."""

from __future__ import annotations

import os
import selectors
import signal
from typing import TYPE_CHECKING, Any

from pytest_carthage import clock
from pytest_carthage.fabric.wire import frames, replies

if TYPE_CHECKING:
    import socket
    from collections.abc import Mapping, Sequence


class Refused(Exception):
    """The other end refused a request; ``errno`` when the kernel gave one."""

    def __init__(self, message: str, errno: int | None = None, request: int | None = None) -> None:
        super().__init__(message)
        self.errno = errno
        #: number of the request that it answers
        self.request = request


class Client:
    """One connection; not for use by several threads at once.

    What interrupts it in the middle of a frame (a signal's exception) closes it: nobody knows
    where the next frame would begin.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._last = 0
        #: number of a request without an answer to the operation and what it was asked with
        self._asked: dict[int, tuple[str, Mapping[str, object]]] = {}

    def close(self) -> None:
        """Close the connection."""
        self._sock.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def send(self, op: str, /, *, fds: Sequence[int] = (), **fields: object) -> int:
        """Send a request; returns its number, for :meth:`receive`.

        :raises frames.Crowded: its descriptors cannot go now.
        :raises frames.Closed: the other end is gone.
        """
        self._last += 1
        number = self._last
        self._asked[number] = op, fields
        try:
            frames.send(self._sock, {"id": number, "op": op, **fields}, fds)
        except (ValueError, frames.Crowded):
            del self._asked[number]  # nothing was sent
            raise
        except BaseException:
            self.close()
            raise
        return number

    def receive(self) -> tuple[dict[str, Any], list[int]]:
        """Receive the next reply.

        :raises Refused: it is a refusal.
        :raises frames.Closed: the other end is gone, or answered what is
            no answer.
        """
        try:
            reply, fds = frames.receive(self._sock)
            try:
                number = reply.get("id")
                asked = self._asked.pop(number, None) if type(number) is int else None
                if asked is None:
                    raise frames.Malformed(f"a reply to {number!r:.40}, which nobody asked")
                replies.check(*asked, reply, len(fds))
            except BaseException:
                frames.close_all(fds)
                raise
        except BaseException:
            self.close()
            raise
        if not reply["ok"]:
            raise Refused(reply["error"], reply["errno"], number)
        return reply, fds

    def request(
        self, op: str, /, *, fds: Sequence[int] = (), **fields: object
    ) -> tuple[dict[str, Any], list[int]]:
        """Ask and wait for the answer; answers to what was asked before are passed over.

        :raises Refused: with the reason.
        :raises frames.Closed: the other end is gone, or answered what is
            no answer.
        """
        number = self.send(op, fds=fds, **fields)
        while True:
            answer = self.receive_for(number)
            if answer is not None:
                return answer

    def receive_for(self, number: int) -> tuple[dict[str, Any], list[int]] | None:
        """Receive the next reply; None: it is to another request, and is passed over.

        :raises Refused: it is a refusal, and to this request.
        """
        try:
            reply, fds = self.receive()
        except Refused as refused:
            if refused.request == number:
                raise
            return None
        if reply["id"] == number:
            return reply, fds
        frames.close_all(fds)
        return None

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
        deadline = None if timeout_s is None else clock.monotonic_s() + timeout_s
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
            wait_number = self.send("wait", job=job)
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
                    wait = None if deadline is None else max(0.0, deadline - clock.monotonic_s())
                ready = selector.select(wait)
                if not ready and status is None:
                    self.request("kill", job=job, signal=int(signal.SIGKILL))
                    raise TimeoutError(f"no end after {timeout_s:g} s")
                for key, _ in ready:
                    if key.fileobj is self._sock:
                        answer = self.receive_for(wait_number)
                        if answer is not None:
                            status = answer[0]["status"]
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


def connect(
    socket_path: str, machine: str | None = None, *, limit_s: float | None = None
) -> Client:
    """Connect to a fabric, or through it to a machine's agent.

    :param limit_s: the longest that an answer may take; a TimeoutError tells that it did.
    :raises Refused: there is no such machine, or its agent is gone.
    :raises OSError: there is no such fabric.
    """
    sock = frames.connect(socket_path)
    sock.settimeout(limit_s)
    client = Client(sock)
    if machine is not None:
        try:
            client.request("channel", machine=machine)
        except BaseException:
            client.close()
            raise
    return client
