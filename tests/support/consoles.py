"""Serial consoles that are recorded, of machines that are sockets of a test's."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pytest_carthage.channels.consoles import Attached, Consoles, attach
from pytest_carthage.portal import Portal
from tests.channels.conftest import settled

__all__ = ["Recorded"]


class Spawns:
    """A fabric that starts programs, and nothing else."""

    def __init__(self) -> None:
        self.processes: list[subprocess.Popen[bytes]] = []

    async def request(
        self, op: str, /, *, fds: Sequence[int] = (), **fields: Any
    ) -> tuple[dict[str, Any], list[int]]:
        assert op == "spawn"
        self.spawn(fields["argv"], fields["env"], Path(fields["log"]))
        return {"pid": self.processes[-1].pid}, []

    def spawn(self, argv: Sequence[str], env: Mapping[str, str], path: Path) -> None:
        with path.open("ab") as log:
            process = subprocess.Popen(argv, env=env, stdout=log, stderr=log, cwd="/")
        self.processes.append(process)

    def kill(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()

    def close(self) -> None:
        self.kill()


class Recorded:
    """An environment's folder, and the machines that print there."""

    def __init__(self, portal: Portal, folder: Path) -> None:
        self.portal = portal
        self.folder = folder
        self.fabric = Spawns()
        self._open = contextlib.ExitStack()

        async def make() -> Consoles:
            return Consoles(self.fabric, folder)

        self.consoles = portal.call(make)

    def record(self, name: str = "web") -> socket.socket:
        """Record a machine; returns its serial port."""
        path = self.folder / f"{name}.sock"
        self.portal.call(self.consoles.record, name, path, self.log(name).path)
        return self.connect(name)

    def connect(self, name: str = "web") -> socket.socket:
        port = self._open.enter_context(socket.socket(socket.AF_UNIX))
        port.settimeout(30)
        folder = os.open(self.folder, os.O_PATH)
        try:  # the kernel takes no more than 108 bytes as the path of a socket
            port.connect(f"/proc/self/fd/{folder}/{name}.sock")
        finally:
            os.close(folder)
        return port

    def log(self, name: str = "web") -> Printed:
        return Printed(self.folder / "logs" / f"{name}.log")

    def attach(self, name: str = "web", **more: Any) -> Attached:
        attached = attach(self.folder, name, **more)
        self._open.enter_context(attached.socket)
        attached.socket.settimeout(30)
        return attached

    def close(self) -> None:
        self._open.close()
        self.fabric.close()


class Printed:
    """The log of a console."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def shows(self, text: str) -> bool:
        """Whether that is its end, as soon as it is."""
        return settled(lambda: self.path.read_text().endswith(text), True)
