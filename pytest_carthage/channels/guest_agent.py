"""A deputy by QEMU's guest agent, for a virtual machine without Python: commands alone.

The agent runs a command to its end and gives its output then, see qemu-ga(8). One client at a
time is connected to it: each question has a connection of its own, so that commands that take long
do not keep others waiting.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import select
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from pytest_carthage import clock
from pytest_carthage.channels.deputy import Deputy, deputy_command
from pytest_carthage.channels.questions import Questions
from pytest_carthage.fabric.wire import frames
from pytest_carthage.fabric.wire.server import Reply

__all__ = ["GuestAgent", "GuestAgentError", "deputy_by_guest_agent", "main"]

#: between looks at whether a command has ended: at first, and at last
_LOOK_S, _LOOK_MOST_S = 0.01, 0.25
#: the longest that the agent may take to answer
_ANSWER_S = 30.0
#: what a message to it may hold of a command's input (base64 makes it a third longer)
_MOST_INPUT = 6 << 20
_MARK = b"\xff"


class GuestAgentError(Exception):
    """It refused, or did not answer."""


class GuestAgent:
    """The agent behind a socket of QEMU's."""

    def __init__(self, path: str, *, answer_s: float = _ANSWER_S) -> None:
        self._path = path
        self._answer_s = answer_s

    def ask(self, command: str, **arguments: Any) -> Any:
        """Ask; returns what it answers.

        :raises GuestAgentError: it refused, or does not answer.
        """
        deadline = clock.monotonic_s() + self._answer_s
        try:
            with frames.connect(self._path) as sock:
                sock.settimeout(self._answer_s)
                self._synchronise(sock, deadline)
                self._send(sock, {"execute": command, "arguments": arguments})
                answer = json.loads(self._line(sock, deadline))
        except (OSError, ValueError) as error:
            raise GuestAgentError(f"the guest agent does not answer: {error}") from error
        if "error" in answer:
            raise GuestAgentError(str(answer["error"].get("desc", answer["error"])))
        return answer["return"]

    def _synchronise(self, sock: socket.socket, deadline: float) -> None:
        """Drop what was meant for whoever was connected before."""
        number = int.from_bytes(os.urandom(6), "big")
        sock.sendall(_MARK)
        self._send(sock, {"execute": "guest-sync-delimited", "arguments": {"id": number}})
        while True:
            line = self._line(sock, deadline)
            _, mark, rest = line.rpartition(_MARK)
            if mark and json.loads(rest).get("return") == number:
                return

    def _send(self, sock: socket.socket, message: Mapping[str, Any]) -> None:
        sock.sendall(json.dumps(message).encode() + b"\n")

    def _line(self, sock: socket.socket, deadline: float) -> bytes:
        parts = []
        while True:
            if clock.monotonic_s() > deadline:
                raise TimeoutError(f"nothing within {self._answer_s:g} s")
            data = sock.recv(1 << 20)
            if not data:
                raise ConnectionError("it is gone")
            parts.append(data)
            if data.endswith(b"\n"):
                return b"".join(parts)


class _GuestDeputy(Deputy):
    """Carries commands and files by the guest agent."""

    def greeting(self) -> Reply:
        """What there is to be asked for, and by which way it goes."""
        return Reply(**{**super().greeting().fields, "way": "guest agent"})


def deputy_by_guest_agent(
    path: str | os.PathLike[str], *, env: Mapping[str, str] | None = None
) -> list[str]:
    """The command of a deputy that carries commands and files by QEMU's guest agent.

    The machine needs a POSIX shell with coreutils and setsid(1).

    :param path: of the socket of the port ``org.qemu.guest_agent.0``.
    :param env: variables of every command.
    """
    return deputy_command(f"{__name__}:_serve", os.fspath(path), dict(env or {}))


def _serve(control: socket.socket, path: str, env: Mapping[str, str]) -> None:
    code = (
        "import json, sys; sys.path[:] = json.loads(sys.argv.pop(1))\n"
        f"from {__name__} import main; main()"
    )
    prefix = [sys.executable, "-I", "-c", code, json.dumps(sys.path), path]
    _GuestDeputy(Questions(lambda argv: [*prefix, *argv]), env=env).serve(control)


def main() -> None:
    """Run a command in the machine with this process's streams, and end with its status."""
    path, argv = sys.argv[1], sys.argv[2:]
    agent = GuestAgent(path)
    try:
        sys.exit(_run(agent, argv))
    except GuestAgentError as error:
        os.write(2, f"{error}\n".encode())
        sys.exit(255)


def _run(agent: GuestAgent, argv: Sequence[str]) -> int:
    data = _input()
    started = agent.ask(
        "guest-exec",
        path="setsid",
        arg=list(argv),
        **({"input-data": base64.b64encode(data).decode()} if data else {}),
        **{"capture-output": True},
    )
    pid = int(started["pid"])
    watcher = _watch(agent, pid)
    pause_s = _LOOK_S
    while True:
        status = agent.ask("guest-exec-status", pid=pid)
        if status["exited"]:
            break
        select.select([], [], [], pause_s)
        pause_s = min(pause_s * 1.5, _LOOK_MOST_S)
    os.write(watcher, b"+")
    for fd, name in ((1, "out-data"), (2, "err-data")):
        _write(fd, base64.b64decode(status.get(name, "")))
    if "signal" in status:
        signal.signal(status["signal"], signal.SIG_DFL)
        os.kill(os.getpid(), status["signal"])
    return int(status.get("exitcode", 255))


def _input() -> bytes:
    parts, size = [], 0
    while part := os.read(0, 1 << 20):
        size += len(part)
        if size > _MOST_INPUT:
            raise GuestAgentError(
                f"the guest agent takes at most {_MOST_INPUT >> 20} MiB as a command's input; "
                "try: Python in the image, so that our agent runs there"
            )
        parts.append(part)
    return b"".join(parts)


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    try:
        while view:
            view = view[os.write(fd, view) :]
    except BrokenPipeError:
        pass


def _watch(agent: GuestAgent, pid: int) -> int:
    """Have a process end the command there, if this one is killed before it has ended.

    :returns: a descriptor, to which a byte is written when there is nothing to be ended.
    """
    reading, writing = os.pipe()
    if os.fork():
        os.close(reading)
        return writing
    os.close(writing)
    os.setsid()
    for fd in (0, 1, 2):
        os.close(fd)
    select.select([reading], [], [])
    if not os.read(reading, 1):
        with contextlib.suppress(GuestAgentError):
            agent.ask("guest-exec", path="kill", arg=["-KILL", "--", f"-{pid}"])
    os._exit(0)
