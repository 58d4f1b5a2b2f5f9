"""How a run's supervisor is started, which makes the run's folder.

Nothing is on disk before there is a process that will take it away: who starts a supervisor may be
killed at any moment, and is waited for by nobody.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import subprocess
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING

from pytest_carthage.errors import StateError
from pytest_carthage.fabric.container import delegation
from pytest_carthage.fabric.host import folders
from pytest_carthage.state import places, possession, starter, sweeping

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

__all__ = ["alone", "start_supervisor"]

_START_S = 60.0
#: how long one that has nothing more to say may take to end
_END_S = 0.2
_POLL_S = 0.005
_BOOTSTRAP = (
    "import sys; sys.path.append({path!a}); "
    "from pytest_carthage.state.supervisor import main; "
    "main({folder!a}, {ready}, {gate}, {bequest})"
)


@contextlib.asynccontextmanager
async def alone(root: Path) -> AsyncIterator[int]:
    """One at a time may start a supervisor, in all processes of a user and all tasks of one.

    Yields the descriptor that holds that, for the supervisor: a run is born as long as either has
    it.
    """
    fd = possession.gate(root)
    try:
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                # flock(2) that waits would stop the loop, or a thread that cannot be cancelled
                await asyncio.sleep(_POLL_S)
        yield fd
    finally:
        os.close(fd)


#: supervisors that this process has started, and not yet reaped
_started: list[int] = []


def _reap() -> None:
    """Let go of supervisors that have ended: one process may have many runs, as tests do."""
    for pid in list(_started):
        try:
            ended, _ = os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:
            ended = pid
        if ended:
            _started.remove(pid)


async def start_supervisor(folder: Path, gate: int) -> None:
    """Start the supervisor of a run, which is serving when this returns, in a folder of its own.

    :param gate: what :func:`alone` yields.
    :raises StateError: it did not start, with what it printed.
    :raises OSError: it cannot be started.
    """
    beginnings: list[list[str]] = [[]]
    if beginning := delegation.scope():
        beginnings.insert(0, beginning)  # its systemd may refuse to
    for beginning in beginnings:
        process, reading, printed = _spawn(folder, gate, beginning)
        with printed:
            try:
                answer = await _first_word(reading)
            except BaseException:
                _give_up(process, folder)
                raise
            finally:
                os.close(reading)
            if answer == b"ready":
                break
            reason = _reason(process, printed)
            _give_up(process, folder)
    else:
        raise StateError(f"run {folder.name!r}: its supervisor did not start: {reason}")
    # it may outlive this process: Popen must not wait for it
    process.returncode = 0
    _started.append(process.pid)


def _spawn(
    folder: Path, gate: int, beginning: list[str]
) -> tuple[subprocess.Popen[bytes], int, IO[bytes]]:
    """Start the process; returns it, a pipe through which it tells that it is ready, and a file
    with what it prints until it has one of its own.

    :param beginning: of its command.
    """
    _reap()
    package = Path(__file__).resolve().parents[2]
    printed = os.fdopen(os.memfd_create("supervisor.log"), "rb")
    reading, writing = os.pipe()
    bequest = starter.bequeath({"PYTHONPATH": sweeping.search_path()})
    code = _BOOTSTRAP.format(
        path=_in_utf8(package),
        folder=_in_utf8(folder),
        ready=writing,
        gate=gate,
        bequest=bequest,
    )
    try:
        process = subprocess.Popen(
            # in UTF-8, whatever the starter's locale: names on this host, and in machines
            [*beginning, sys.executable, "-I", "-S", "-X", "utf8", "-c", code],
            stdin=subprocess.DEVNULL,
            stdout=printed,
            stderr=printed,
            cwd="/",
            env=starter.environment(),
            pass_fds=(writing, gate, bequest),
            start_new_session=True,
        )
    except BaseException:
        os.close(reading)
        printed.close()
        raise
    finally:
        os.close(bequest)
        os.close(writing)
    return process, reading, printed


def _in_utf8(path: Path) -> str:
    """A path as a process has it whose names of files are in UTF-8."""
    return os.fsencode(path).decode("utf-8", "surrogateescape")


async def _first_word(reading: int) -> bytes:
    """What comes through a pipe first; nothing if that is its end, or the time is over."""
    ready = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(reading, ready.set)
    try:
        async with asyncio.timeout(_START_S):
            await ready.wait()
    except TimeoutError:
        return b""
    finally:
        loop.remove_reader(reading)
    return os.read(reading, 5)


def _reason(process: subprocess.Popen[bytes], printed: IO[bytes]) -> str:
    """Why a supervisor did not say that it is ready."""
    try:
        process.wait(_END_S)
        end = "it ended"
    except subprocess.TimeoutExpired:
        end = f"no word in {_START_S:g} s"
    printed.seek(0)
    text = printed.read().decode(errors="replace").strip()
    return places.lack_of_space() or (
        f"{end}; it printed: {text.splitlines()[-1] if text else 'nothing'}"
    )


def _give_up(process: subprocess.Popen[bytes], folder: Path) -> None:
    process.kill()
    process.wait()
    folders.remove(folder.parent, folder.name)
