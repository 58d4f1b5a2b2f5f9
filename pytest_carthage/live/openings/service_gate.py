"""A gate to a service of the host that has a socket in the file system, as docker's."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_carthage.errors import GateError
from pytest_carthage.live.openings.gate import AsyncGate

if TYPE_CHECKING:
    from pytest_carthage.live.openings.gate import GatedMachine, Gates

__all__ = ["ServiceGate"]


class ServiceGate(AsyncGate):
    """An open gate to a socket, which is seen in its place; descriptors do not pass it."""

    def __init__(self, gates: Gates, place: str, *, to: str, for_s: float, folder: Path) -> None:
        super().__init__(gates, place, to=to, for_s=for_s, at=to)
        self._folder = folder
        #: where it listens; to be mounted over what it leads to
        self.file = folder / f"{os.urandom(8).hex()}.sock"

    @property
    def _listens(self) -> str:
        return self.to

    def _check(self) -> GatedMachine:
        try:
            is_socket = stat.S_ISSOCK(Path(self.to).stat().st_mode)
        except OSError as error:
            raise GateError(f"{self._who}: {error.strerror}") from None
        if not is_socket:
            raise GateError(f"{self._who}: this is no socket")
        return self._gates.handle(self.machine)

    @property
    def _has_name(self) -> bool:
        return False

    async def _resolve(self) -> list[tuple[int, Any]]:
        return []

    async def _listen(self, machine: GatedMachine) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            # the kernel takes no more than 108 bytes as the path of a socket
            folder = os.open(self._folder, os.O_PATH | os.O_CLOEXEC)
            try:
                sock.bind(f"/proc/self/fd/{folder}/{self.file.name}")
            finally:
                os.close(folder)
        except BaseException:
            sock.close()
            raise
        return sock

    async def _reach(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        try:
            return await asyncio.open_unix_connection(self.to)
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else str(error)
            raise OSError(error.errno, f"{self.to}: {reason}") from error

    async def _close(self, by: Any) -> None:
        await super()._close(by)
        with contextlib.suppress(FileNotFoundError):
            self.file.unlink()
