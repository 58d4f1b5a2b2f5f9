"""A fake machine: files, commands, services and power in memory."""

from __future__ import annotations

import errno
import os
import socket
import threading
from collections.abc import Callable, Mapping, Sequence

from pytest_carthage.testing.commands import Answer, Answers, Call, Output
from pytest_carthage.testing.files import Tree
from pytest_carthage.testing.programs import run_program

__all__ = ["FakeMachine", "Service"]

#: is given the far end of a connection, in a thread of its own
Service = Callable[[socket.socket], None]


class FakeMachine:
    """A machine in memory; a test prepares it, and looks at what was done to it."""

    def __init__(
        self,
        name: str,
        *,
        answers: Mapping[str, Answer] | None = None,
        files: Mapping[str, str | bytes] | None = None,
        hostname: str | None = None,
        env: Mapping[str, str] | None = None,
        addresses: Sequence[tuple[str, str]] = (),
    ) -> None:
        self.name = name
        self.hostname: str = hostname or name
        self.env = dict(env or {})
        #: what it has set by itself: interface and address, as ``("eth0", "10.0.0.1/24")``
        self.addresses = list(addresses)
        #: its files; ``machine.files["/etc/hosts"]`` is a text
        self.files = Tree()
        #: what its files were, by the names of its snapshots
        self.snapshots: dict[str, Tree] = {}
        #: every command that it was asked to run, in order
        self.calls: list[Call] = []
        #: what it printed, for ``logs()``
        self.log = ""
        #: the text on its screen, of which ``screenshot()`` gives a picture that is blank
        self.screen = ""
        #: keys that were typed at it, by their names: ``"a"``, ``"shift-a"``, ``"enter"``
        self.keys: list[str] = []
        #: on or off
        self.power: str = "on"
        #: how often it was switched on
        self.starts = 1
        self._answers = Answers(answers)
        #: services, by protocol and port
        self._services: dict[tuple[str, int], Service] = {}
        for path, content in (files or {}).items():
            self.files.write(path, content)

    def answer(self, pattern: str, answer: Answer) -> None:
        """Have commands whose text fits a pattern (fnmatch(3)) give this from now on."""
        self._answers.add(pattern, answer)

    def serve(self, port: int, service: Service = socket.socket.close) -> None:
        """Listen on a TCP port; each connection is given to ``service`` in a thread of its own.

        Without a service, connections are closed at once.
        """
        self._services["tcp", port] = service

    def serve_console(self, service: Service) -> None:
        """Have a function answer on its serial console, as :meth:`serve` does on a port."""
        self._services["console", 0] = service

    def attach(self) -> socket.socket:
        """Attach to its serial console; without a service, what is typed there has no answer."""
        return self._served(self._services.get(("console", 0), _listen), "console")

    @property
    def commands(self) -> list[str]:
        """Texts of all commands that it was asked to run."""
        return [call.text for call in self.calls]

    @property
    def ports(self) -> Sequence[int]:
        """Ports that it listens on."""
        return sorted(port for protocol, port in self._services if protocol == "tcp")

    def home(self, user: str) -> str:
        """Home of a user."""
        return "/root" if user == "root" else f"/home/{user}"

    async def run(self, call: Call) -> Output:
        """What a command gives: an answer of the test's, or of a simple program's own."""
        self.calls.append(call)
        output = await self._answers.to(call) or await run_program(call)
        if output is not None:
            return output
        return Output(
            status=127,
            stderr=f"fake machine {self.name!r}: nothing answers {call.text!r}; "
            f"try: answers={{{call.text!r}: ...}}\n",
        )

    def connect(self, port: int) -> socket.socket:
        """A connection to one of its ports, as from itself.

        :raises ConnectionRefusedError: nobody listens there.
        """
        service = self._services.get(("tcp", port))
        if service is None or self.power == "off":
            raise ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))
        return self._served(service, port)

    def _served(self, service: Service, name: object) -> socket.socket:
        ours, theirs = socket.socketpair()

        def serve() -> None:
            with theirs:
                service(theirs)

        threading.Thread(target=serve, name=f"{self.name}:{name}", daemon=True).start()
        return ours

    def __repr__(self) -> str:
        return f"<fake machine {self.name}: {self.power}>"


def _listen(far: socket.socket) -> None:
    """Take what is typed, and say nothing."""
    while far.recv(1 << 16):
        pass
