"""The agent far away: answers one deputy at a time, and outlives it.

It runs on a virtio-serial port of a virtual machine, or on its standard input and output.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
import sys
import time
from functools import partial
from typing import TYPE_CHECKING

from pytest_carthage.channels.far.inside.contents import FileSink, FileSource, touch
from pytest_carthage.channels.far.inside.identity import Identity, renew
from pytest_carthage.channels.far.inside.jobs import FarJobs, owner_of
from pytest_carthage.channels.far.inside.looking import far_holders, look, processes
from pytest_carthage.channels.far.inside.loop import Loop
from pytest_carthage.channels.far.inside.network import Connecting, Echoing, Listener, netlink
from pytest_carthage.channels.far.inside.streams import Port, Streams
from pytest_carthage.channels.far.inside.window import FarWindow
from pytest_carthage.channels.far.inside.wire import (
    HELLO,
    HERE,
    MESSAGE,
    NUMBER_BYTES,
    PAD,
    PART,
    WELCOME,
    FrameReader,
    MessageReader,
    message_frames,
)
from pytest_carthage.fabric.named_files import FILE_WORK

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

#: how long it is looked whether a host is there, where the kernel does not tell when one comes
_LOOK_S = 0.05
#: reads of the port in one turn
_READS = 64
_O_ASYNC = 0o20000


class FarAgent:
    """What is asked is answered, in the order in which it can be."""

    def __init__(self, reading: int, writing: int, is_port: bool) -> None:
        """:param is_port: whoever is at the other end may go, and another one come."""
        self._reading = reading
        self._is_port = is_port
        self._loop = Loop()
        self._port = Port(writing, self._loop)
        self._streams = Streams(self._loop, self._port)
        self._frames = FrameReader((HELLO,))
        self._messages = MessageReader()
        self._jobs = FarJobs(self._streams, self._tell)
        #: request to what takes it back, while it is under way
        self._under_way: dict[int, Callable[[], None]] = {}
        self._number = b""
        #: by the number of the request that began it
        self._listeners: dict[int, Listener] = {}
        self._window = FarWindow()
        self._wake, wake = os.pipe()
        for fd in (reading, writing, self._wake, wake):
            os.set_blocking(fd, False)
        for name in (signal.SIGCHLD, signal.SIGIO):
            signal.signal(name, lambda number, frame: None)
        signal.set_wakeup_fd(wake)
        if is_port:
            fcntl.fcntl(reading, fcntl.F_SETOWN, os.getpid())
            flags = fcntl.fcntl(reading, fcntl.F_GETFL)
            fcntl.fcntl(reading, fcntl.F_SETFL, flags | _O_ASYNC)
        self._work: dict[str, Callable[[dict[str, Any]], dict[str, Any] | None]] = {
            **{name: self._by_name(work) for name, work in FILE_WORK.items()},
            "run": self._jobs.run,
            "kill": self._jobs.kill,
            "resize": self._jobs.resize,
            "end": self._end,
            "cancel": self._cancel,
            "touch": touch,
            "read": lambda message: FileSource(self._streams, message).reply,
            "write": self._write,
            "connect": partial(self._begin, Connecting),
            "echo": partial(self._begin, Echoing),
            "listen": self._listen,
            "unlisten": self._unlisten,
            "window": self._window.look,
            "netlink": netlink,
            "look": look,
            "processes": processes,
            "holders": lambda m: {"holders": far_holders(self._streams, m["streams"])},
            "ping": lambda message: {},
        }
        if is_port:  # nothing of a host that is not ours is changed
            identity = Identity(self._loop)
            self._work.update(renew=renew, sleep=identity.sleep, become=identity.become)

    def _by_name(self, work: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
        return lambda message: work(message, owner_of)

    def serve(self) -> None:
        """Answer until the other end is closed for good; then all that was begun ends."""
        self._loop.watch(self._wake, select.POLLIN, self._woken)
        self._loop.watch(self._reading, select.POLLIN, self._readable)
        self._port.send((PAD if self._is_port else b"") + HERE + bytes(NUMBER_BYTES))
        while True:
            self._loop.turn()

    # the way in

    def _woken(self) -> None:
        try:
            signals = os.read(self._wake, 4096)
        except BlockingIOError:
            return
        if signal.SIGCHLD in signals:
            self._jobs.reap()
        if signal.SIGIO in signals and self._is_port:
            self._loop.watch(self._reading, select.POLLIN, self._readable)

    def _readable(self) -> None:
        for _ in range(_READS):
            try:
                count = os.readv(self._reading, [self._frames.room()])
            except BlockingIOError:
                return
            except OSError:
                count = 0
            if not count:
                self._alone()
                return
            self._frames.took(count)
            while True:
                frame = self._frames.next()
                if frame is None:
                    break
                self._take(*frame)
            if self._frames.is_spoilt:
                self._frames.is_spoilt = False
                self._port.send(HERE + bytes(NUMBER_BYTES))

    def _alone(self) -> None:
        """Nobody is there: on a port somebody may come, which is told by SIGIO."""
        self._reset()
        if not self._is_port:
            os._exit(0)
        self._frames.is_synced = False
        self._loop.unwatch(self._reading)
        self._loop.later(_LOOK_S, partial(self._look_again))

    def _look_again(self) -> None:
        self._loop.watch(self._reading, select.POLLIN, self._readable)

    def _take(self, kind: int, stream: int, payload: bytes) -> None:
        if kind == 0:
            self._reset()
            self._number = payload[-NUMBER_BYTES:]
            self._messages = MessageReader()
            self._port.send(WELCOME + self._number)
            self._tell(self._facts())
        elif kind in (PART, MESSAGE):
            message = self._messages.take(kind, payload)
            if message is not None:
                self._do(message)
        else:
            self._streams.take(kind, stream, payload)

    def _facts(self) -> dict[str, Any]:
        boot = (look({"paths": ["/proc/sys/kernel/random/boot_id"]})["contents"][0] or "").strip()
        python = ".".join(map(str, sys.version_info[:3]))
        return {"boot": boot, "pid": os.getpid(), "uid": os.getuid(), "python": python}

    def _reset(self) -> None:
        """All that was begun for who was there ends."""
        self._port.forget()
        for take_back in list(self._under_way.values()):
            take_back()
        self._under_way.clear()
        for number in list(self._jobs.jobs):
            self._jobs.end(number)
        for number in list(self._listeners):
            self._unlisten({"listener": number})
        self._streams.close()

    # what is asked

    def _do(self, message: dict[str, Any]) -> None:
        try:
            reply = self._work[message["op"]](message)
        except Exception as error:  # who asked is told
            self._refuse(message["id"], error)
        else:
            if reply is not None:
                self._answer(message["id"], reply)

    def _answer(self, number: int, reply: dict[str, Any]) -> None:
        self._tell({"id": number, "ok": True, **reply})

    def _refuse(self, number: int, error: BaseException) -> None:
        is_known = isinstance(error, (OSError, LookupError, ValueError))
        text = str(error) if is_known and str(error) else f"{type(error).__name__}: {error}"
        code = error.errno if isinstance(error, OSError) else None
        self._tell({"id": number, "ok": False, "error": text, "errno": code})

    def _tell(self, record: dict[str, Any]) -> None:
        self._port.send(message_frames(record))

    def _end(self, message: dict[str, Any]) -> dict[str, Any]:
        self._jobs.end(message["job"])
        return {}

    def _cancel(self, message: dict[str, Any]) -> dict[str, Any]:
        """Nobody waits for a request any more: what it began ends."""
        take_back = self._under_way.pop(message["request"], None)
        if take_back is not None:
            take_back()
        self._jobs.end(message["request"])
        return {}

    def _listen(self, message: dict[str, Any]) -> dict[str, Any]:
        listener = self._listeners[message["id"]] = Listener(self._streams, message, self._tell)
        return {"port": listener.port}

    def _unlisten(self, message: dict[str, Any]) -> dict[str, Any]:
        listener = self._listeners.pop(message["listener"], None)
        if listener is not None:
            listener.close()
        return {}

    def _write(self, message: dict[str, Any]) -> None:
        number = message["id"]

        def done(error: BaseException | None) -> None:
            self._under_way.pop(number, None)
            if error is None:
                self._answer(number, {})
            else:
                self._refuse(number, error)

        sink = FileSink(self._streams, self._window, message, done)
        self._under_way[number] = sink.close

    def _begin(self, kind: type[Connecting | Echoing], message: dict[str, Any]) -> None:
        number = message["id"]

        def done(outcome: dict[str, Any] | BaseException) -> None:
            self._under_way.pop(number, None)
            if isinstance(outcome, dict):
                self._answer(number, outcome)
            else:
                self._refuse(number, outcome)

        begun = kind(self._streams, message, done)
        if not begun.is_over:
            self._under_way[number] = begun.cancel


def main() -> None:
    """Serve on the port that is named, or on standard input and output."""
    os.umask(0o022)
    os.chdir("/")
    if len(sys.argv) > 1:
        reading = _open_port(sys.argv[1])
        writing = os.dup(reading)  # each is waited for by itself
    else:
        reading, writing = (fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 10) for fd in (0, 1))
    null = os.open("/dev/null", os.O_RDWR)
    for fd in (0, 1):
        os.dup2(null, fd)
    FarAgent(reading, writing, len(sys.argv) > 1).serve()


def _open_port(name: str) -> int:
    """Open a port by its name or its path; it may come a moment after this program."""
    while True:
        for path in [name] if "/" in name else _ports(name):
            try:
                fd = os.open(path, os.O_RDWR | os.O_NONBLOCK)
            except OSError:
                continue
            return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 10)
        time.sleep(0.05)


def _ports(name: str) -> list[str]:
    """Where a port may be, also where nobody makes links to devices."""
    folder = "/sys/class/virtio-ports"
    try:
        ports = os.listdir(folder)
    except OSError:
        return []
    contents = look({"paths": [folder + "/" + port + "/name" for port in ports]})["contents"]
    return ["/dev/" + ports[at] for at, text in enumerate(contents) if (text or "").strip() == name]
