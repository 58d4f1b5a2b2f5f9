"""Programs of the host that run in a fabric: for as long as that lives, or for one answer."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

from pytest_carthage.fabric import birth
from pytest_carthage.fabric import syscalls as sys_
from pytest_carthage.fabric.wire.server import Connection, Reply
from pytest_carthage.fabric.wire.steps import Steps, readable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_carthage.fabric.spec import MountSpec
    from pytest_carthage.fabric.wire import frames

_START_S = 10.0


class Errands:
    """Those of one fabric."""

    def __init__(self) -> None:
        #: process to who waits for its end
        self._waiting: dict[int, tuple[Connection, int]] = {}
        #: process that was spawned to who asked for it
        self._spawned: dict[int, tuple[Connection, int]] = {}

    def spawn(self, connection: Connection, message: frames.Message) -> Steps[Reply]:
        """Start a program that lives as long as the fabric, or shorter.

        With ``mounts``, be it none, it has a mount namespace of its own.

        :raises OSError: it cannot be started, or one of its mounts cannot be made.
        """
        log = os.open(message["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        reading, writing = os.pipe2(os.O_CLOEXEC)
        try:
            pid = birth.fork(
                lambda: _become(message, log, writing),
                keep=(log, writing),
            )
        except BaseException:
            os.close(reading)
            raise
        finally:
            os.close(log)
            os.close(writing)
        self._spawned[pid] = connection, message["id"]
        try:
            # the kernel closes it with the exec
            if not (yield from readable(reading, _START_S)):
                if pid in self._spawned:  # it was not reaped: the number is its own
                    os.kill(pid, signal.SIGKILL)
                raise OSError(f"{message['argv'][0]!r} did not start within {_START_S:g} s")
            word = os.read(reading, 4096).decode(errors="replace")
        finally:
            os.close(reading)
        if word:
            number, _, text = word.partition(" ")
            raise OSError(int(number) or None, text)
        return Reply(pid=pid)

    def inside(
        self,
        connection: Connection,
        message: frames.Message,
        fds: list[int],
        *,
        network: int | None,
    ) -> None:
        """Run a program with the caller's descriptors; its end is told later.

        :param network: descriptor of the network namespace that it runs in; None: the fabric's.
        """
        argv, env = message["argv"], message["env"]

        def body() -> None:
            if network is not None:
                sys_.setns(network, sys_.CLONE_NEWNET)
            for number, fd in enumerate(fds[:3]):
                os.dup2(fd, number)
            _restore_signals()
            os.execvpe(argv[0], argv, env)

        pid = birth.fork(body, keep=[*fds, *([network] if network is not None else [])])
        self._waiting[pid] = connection, message["id"]

    def child_ended(self, pid: int, status: int) -> bool:
        """A child has ended; returns whether it was one of these."""
        if self._spawned.pop(pid, None) is not None:
            return True
        client = self._waiting.pop(pid, None)
        if client is None:
            return False
        client[0].answer(client[1], Reply(status=os.waitstatus_to_exitcode(status)))
        return True

    def cancel(self, connection: Connection, request: int) -> None:
        """Nobody waits for a request any more: what it started ends.

        Who is listed here was not reaped yet, so that the number is its own.
        """
        for running in (self._waiting, self._spawned):
            for pid, client in running.items():
                if client == (connection, request):
                    try:
                        os.kill(pid, signal.SIGKILL)
                    except ProcessLookupError:
                        pass


def _become(message: frames.Message, log: int, failure: int) -> None:
    """Child: become the program, or say why not."""
    argv: list[str] = message["argv"]
    try:
        os.setsid()
        null = os.open("/dev/null", os.O_RDONLY)
        for number, fd in enumerate((null, log, log)):
            os.dup2(fd, number)
        os.chdir(message.get("cwd") or "/")
        if "mounts" in message:
            _mount(message["mounts"], message.get("unmounts", []))
            os.chdir(message.get("cwd") or "/")  # it may be below one of them
        env: Mapping[str, str] = message["env"]
        _restore_signals()
        os.execvpe(argv[0], argv, env)
    except OSError as error:
        text = error.strerror or str(error)
        what = f": {error.filename!r}" if error.filename else f" of {argv[0]!r}"
        os.write(failure, f"{error.errno or 0} {text}{what}".encode()[:4000])
        os._exit(127)


def _restore_signals() -> None:
    """What Python ignores, and other programs do not expect to be ignored."""
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)


def _mount(mounts: list[MountSpec], unmounts: list[str]) -> None:
    """Make a mount namespace in which some folders look otherwise.

    What the fabric mounts later for its machines is seen in it, too: see :mod:`.roots`.
    """
    sys_.unshare(sys_.CLONE_NEWNS)
    for path in unmounts:
        sys_.umount(path)
    for mount in mounts:
        try:
            sys_.mount(mount["source"], mount["target"], None, sys_.MS_BIND | sys_.MS_REC)
            if mount["read_only"]:
                sys_.set_mount(mount["target"], add=sys_.ATTR_RDONLY, deep=True)
        except OSError as error:
            text = f"{error.strerror}, of {mount['source']}"
            raise OSError(error.errno, text, mount["target"]) from error
