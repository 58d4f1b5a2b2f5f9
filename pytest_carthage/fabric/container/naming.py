"""A machine's name as a setting: the kernel lets no root but the host's write ``kernel.hostname``.

So the machine has a copy of that file, and its agent has the name follow it, and it the name.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
import socket
from types import FrameType
from typing import TYPE_CHECKING

from pytest_carthage.fabric import plain_file
from pytest_carthage.fabric.container import settings

if TYPE_CHECKING:
    from pytest_carthage.fabric.wire.server import Server

_MOST_BYTES = 256


def follow(server: Server) -> None:
    """Have name and setting be the same from now on, in the machine that the caller is in.

    Nothing is done where the setting is the kernel's own. What is written there counts as soon as
    the calling process has heard of it: notifications of folders (fcntl(2), F_NOTIFY) tell, since
    inotify(7) would take one of few instances.
    """
    if not settings.has_copies():
        return
    kernels = os.open(
        settings.HOSTNAME.replace("/proc", settings.PRISTINE, 1), os.O_RDONLY | os.O_CLOEXEC
    )
    changes = select.epoll()
    changes.register(kernels, select.EPOLLPRI)

    def name_changed() -> None:
        changes.poll(0)
        if _set_in_file() != socket.gethostname():
            _write(f"{socket.gethostname()}\n".encode())

    def file_changed(number: int, frame: FrameType | None) -> None:
        wanted = _set_in_file()
        if wanted and wanted != socket.gethostname():
            socket.sethostname(wanted)

    server.watch(changes.fileno(), name_changed)
    signal.signal(signal.SIGIO, file_changed)
    # both stay open for as long as this process lives
    folder = os.open(os.path.dirname(settings.HOSTNAME), os.O_RDONLY | os.O_CLOEXEC)
    fcntl.fcntl(folder, fcntl.F_NOTIFY, fcntl.DN_MODIFY | fcntl.DN_MULTISHOT)
    name_changed()  # an init that has begun before has set it already


def _set_in_file() -> str:
    try:
        return plain_file.read(settings.HOSTNAME).decode(errors="replace").strip()[:_MOST_BYTES]
    except OSError:
        return ""


def _write(data: bytes) -> None:
    flags = os.O_WRONLY | os.O_TRUNC | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        fd = os.open(settings.HOSTNAME, flags)
    except OSError:
        return  # the machine's root has made something else of it
    try:
        os.write(fd, data)
    finally:
        os.close(fd)
