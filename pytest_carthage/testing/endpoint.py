"""Who answers for a fake machine: a channel in memory, whose descriptors are real."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal as signals
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from pytest_carthage.errors import FabricError
from pytest_carthage.fabric.agent import address_of
from pytest_carthage.fabric.wire import frames
from pytest_carthage.testing.commands import Call
from pytest_carthage.testing.machine import FakeMachine

__all__ = ["FakeEndpoint"]

Reply = tuple[dict[str, Any], list[int]]

#: what no command ends by, see signal(7)
_HARMLESS = (signals.SIGCHLD, signals.SIGCONT, signals.SIGURG, signals.SIGWINCH)


class _Job:
    """A command under way."""

    def __init__(self, task: asyncio.Task[int]) -> None:
        self.task = task
        self.signal = signals.SIGKILL
        #: how many wait for its end
        self.waiting = 0


class FakeEndpoint:
    """Answers for a fake machine: a :class:`~pytest_carthage.provider.Channel`, in memory.

    Descriptors are real ones: of files without a name, and of pairs of sockets.
    """

    def __init__(
        self,
        machine: FakeMachine,
        *,
        peers: Callable[[str], FakeMachine | None] = lambda address: None,
        lacks: Sequence[str] = (),
    ) -> None:
        """
        :param peers: gives the machine that has an address.
        :param lacks: operations that it does not have.
        """
        self.machine = machine
        self.closed = False
        self._peers = peers
        self._jobs: dict[int, _Job] = {}
        self._last = 0
        files = machine.files
        handlers: dict[str, Callable[..., Any]] = {
            "run": self._run,
            "wait": self._wait,
            "kill": self._kill,
            "open": lambda path, flags, mode=None, user=None: (
                {},
                [files.open(path, flags, mode, user)],
            ),
            "stat": lambda path: files.stat(path),
            "listdir": lambda path: {"names": files.listdir(path)},
            "mkdirs": lambda path, mode=None, user=None: {"made": files.mkdirs(path, mode, user)},
            "symlink": files.symlink,
            "link": files.link,
            "settle": files.settle,
            "chmod": lambda path, mode: files.chmod(path, mode),
            "chown": lambda path, user: files.chown(path, user),
            "connect": self._connect,
            "lookup": lambda host: {"address": address_of(host, self.machine.files["/etc/hosts"])},
            "listening": lambda: {"listening": self._listening()},
            "observe": self._observe,
            "ping": lambda: None,
        }
        self._handlers = {name: call for name, call in handlers.items() if name not in lacks}

    @property
    def operations(self) -> frozenset[str]:
        """What it can be asked for."""
        return frozenset(self._handlers)

    async def request(
        self, op: str, /, *, fds: Sequence[int] = (), **fields: Any
    ) -> tuple[dict[str, Any], list[int]]:
        """Ask; the caller closes the descriptors that come with the answer.

        :raises FabricError: refused, with the reason.
        """
        subject = f"fake machine {self.machine.name!r}"
        if self.closed:
            raise FabricError(f"{subject}: closed")
        handler = self._handlers.get(op)
        if handler is None:
            raise FabricError(f"{subject}: unknown operation {op!r}")
        if self.machine.power == "off":
            raise FabricError(f"{subject}: it is off")
        try:
            answer = handler(*([fds] if op == "run" else []), **fields)
        except (OSError, LookupError, ValueError, TypeError) as error:
            refused = FabricError(f"{subject}: {error}")
            refused.errno = error.errno if isinstance(error, OSError) else None
            raise refused from error
        if asyncio.iscoroutine(answer):  # what raises here is a test's own function
            answer = await answer
        if answer is None:
            return {}, []
        return answer if isinstance(answer, tuple) else (answer, [])

    def hang_up(self) -> None:
        """End all commands that were begun over it."""
        for job in self._jobs.values():
            job.task.cancel()

    def close(self) -> None:
        """End what was begun over it; nothing more can be asked."""
        self.closed = True
        self.hang_up()

    # commands

    def _run(
        self,
        fds: Sequence[int],
        argv: Sequence[str],
        user: str | None = None,
        group: str | None = None,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        tty: bool = False,
        **more: object,
    ) -> dict[str, Any]:
        if tty or len(fds) != 3:
            raise ValueError("a fake machine has no terminals")
        name = user or "root"
        accounts = self.machine.files.accounts
        if name.isdecimal():
            name = accounts.name(int(name))
        accounts.uid(name)
        if cwd is not None and cwd not in self.machine.files:
            raise ValueError(f"no folder {cwd!r} to run a command in")
        values = {
            "HOME": self.machine.home(name),
            "USER": name,
            "LOGNAME": name,
            "LANG": "C.UTF-8",
            **self.machine.env,
            **(env or {}),
        }
        own = [os.dup(fd) for fd in fds]
        self._last += 1

        def call(input: bytes) -> Call:
            return Call(
                machine=self.machine, argv=tuple(argv), user=name, cwd=cwd, env=values, input=input
            )

        task = asyncio.create_task(self._carry_out(own, call))
        # not in the task itself, which may be cancelled before its first step
        task.add_done_callback(lambda done: frames.close_all(own))
        self._jobs[self._last] = _Job(task)
        return {"job": self._last, "pid": 1000 + self._last}

    async def _carry_out(self, fds: Sequence[int], call: Callable[[bytes], Call]) -> int:
        stdin, stdout, stderr = fds
        output = await self.machine.run(call(await _read_all(stdin)))
        for fd, data in ((stdout, output.stdout), (stderr, output.stderr)):
            await _write_all(fd, data.encode() if isinstance(data, str) else data)
        return output.status

    async def _wait(self, job: int) -> dict[str, Any]:
        waited = self._jobs.get(job)
        if waited is None:
            raise FabricError(f"fake machine {self.machine.name!r}: no job {job}")
        waited.waiting += 1
        try:
            await asyncio.wait([waited.task])
        except asyncio.CancelledError:
            if waited.waiting == 1:  # nobody waits for it any more
                waited.task.cancel()
                self._jobs.pop(job, None)
            raise
        finally:
            waited.waiting -= 1
        self._jobs.pop(job, None)
        if waited.task.cancelled():
            return {"status": -int(waited.signal)}
        return {"status": waited.task.result()}

    def _kill(self, job: int, signal: int) -> Awaitable[None] | None:
        running = self._jobs.get(job)
        number = signals.Signals(signal) if signal else None
        if running is None or number is None or number in _HARMLESS or running.task.done():
            return None
        running.signal = number
        running.task.cancel()
        return self._ended(running)

    async def _ended(self, job: _Job) -> None:
        await asyncio.wait([job.task])  # so that its ends of the pipes are closed

    # sockets

    def _connect(
        self, host: str, port: int, protocol: str = "tcp", timeout_s: float | None = None
    ) -> Reply:
        address = address_of(host, self.machine.files["/etc/hosts"])
        if protocol != "tcp":
            raise ValueError("a fake machine has no datagrams")
        return {"address": address}, [self._peer(address).connect(port).detach()]

    def _peer(self, address: str) -> FakeMachine:
        if address.startswith("127.") or address == "::1":
            return self.machine
        peer = self._peers(address)
        if peer is None:
            raise OSError(errno.EHOSTUNREACH, os.strerror(errno.EHOSTUNREACH))
        return peer

    # looking

    def _listening(self) -> list[dict[str, Any]]:
        return [
            {"protocol": "tcp", "address": "0.0.0.0", "port": port} for port in self.machine.ports
        ]

    def _observe(self) -> dict[str, Any]:
        return {
            "hostname": self.machine.hostname,
            "processes": [],
            "listening": self._listening(),
            "addresses": [
                {"interface": name, "address": address, "up": True, "mac": ""}
                for name, address in self.machine.addresses
            ],
            "routes": [],
        }


async def _read_all(fd: int) -> bytes:
    """Read to the end, without blocking the event loop."""
    parts: list[bytes] = []
    loop = asyncio.get_running_loop()
    os.set_blocking(fd, False)
    while True:
        try:
            data = os.read(fd, 1 << 16)
        except BlockingIOError:
            ready = asyncio.Event()
            loop.add_reader(fd, ready.set)
            try:
                await ready.wait()
            finally:
                loop.remove_reader(fd)
            continue
        if not data:
            return b"".join(parts)
        parts.append(data)


async def _write_all(fd: int, data: bytes) -> None:
    """Write without blocking the event loop; a reader who has gone needs no more."""
    loop = asyncio.get_running_loop()
    os.set_blocking(fd, False)
    view = memoryview(data)
    with contextlib.suppress(BrokenPipeError):
        while view:
            try:
                view = view[os.write(fd, view) :]
            except BlockingIOError:
                ready = asyncio.Event()
                loop.add_writer(fd, ready.set)
                try:
                    await ready.wait()
                finally:
                    loop.remove_writer(fd)
