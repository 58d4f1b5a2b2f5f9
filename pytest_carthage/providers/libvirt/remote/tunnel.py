"""What another host listens on, at sockets here: the forwards of ssh(1)."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_carthage.channels.questions import end_with
from pytest_carthage.fabric.wire import frames

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_carthage.providers.libvirt.remote.uri import LibvirtUri

__all__ = ["LIBVIRT", "Tunnel"]

#: name of the socket that leads to libvirt
LIBVIRT = "libvirt.sock"
#: how long ssh may take to end when it is asked to
_END_S = 5.0


class Tunnel:
    """Ways to a libvirt and to ports of its host, of one process.

    :param folder: where the sockets are, which nobody else can enter.
    :param ports: TCP ports of the host's loopback address that are to be reached.
    """

    def __init__(self, address: LibvirtUri, folder: Path, ports: Sequence[int] = ()) -> None:
        self._address = address
        self.folder = folder
        self._ports = ports
        self._process: subprocess.Popen[bytes] | None = None
        self._said = -1

    def start(self) -> None:
        """Begin it, anew where it has ended; it ends with the thread that calls this."""
        self.close()
        if not self._address.ssh:
            return
        self.folder.mkdir(mode=0o700, exist_ok=True)
        for name in self._names():
            (self.folder / name).unlink(missing_ok=True)
        command, *rest = self._address.ssh
        forwards = [f"-L./{LIBVIRT}:{self._address.socket}"]
        forwards += [f"-L./{port}:127.0.0.1:{port}" for port in self._ports]
        self._said = os.memfd_create("said", os.MFD_CLOEXEC)
        self._process = subprocess.Popen(
            [command, "-N", *forwards, *rest],
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=self._said,
            stderr=self._said,
            start_new_session=True,
            preexec_fn=partial(end_with, os.getpid()),
        )

    def _names(self) -> list[str]:
        return [LIBVIRT, *map(str, self._ports)]

    @property
    def is_open(self) -> bool:
        """Whether its sockets can be connected to."""
        return not self._address.ssh or all((self.folder / each).exists() for each in self._names())

    @property
    def has_ended(self) -> bool:
        """Whether it leads nowhere any more."""
        return bool(self._address.ssh) and (
            self._process is None or self._process.poll() is not None
        )

    def why(self) -> str:
        """What ssh has said last."""
        if self._said < 0:
            return "it says nothing"
        said = os.pread(self._said, 1 << 16, 0).decode(errors="replace")
        lines = [line.strip() for line in said.splitlines() if line.strip()]
        return " / ".join(lines[-3:]) or "it says nothing"

    def connect(self, port: int) -> socket.socket:
        """Connect to a port of the host's loopback address.

        :raises OSError: nobody is there; through ssh that is felt as an end.
        """
        if not self._address.ssh:
            return socket.create_connection(("127.0.0.1", port), 10)
        return frames.connect(str(self.folder / str(port)))

    def libvirt(self) -> str:
        """URI of the libvirt, for this process, which has its working folder in this one."""
        return "qemu+unix:///system?socket=" + (
            f"{self.folder}/{LIBVIRT}" if self._address.ssh else self._address.socket
        )

    def close(self) -> None:
        """End it."""
        process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_END_S)
        if self._said >= 0:
            os.close(self._said)
            self._said = -1
