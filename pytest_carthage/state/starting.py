"""Who may start a run, and how its supervisor is started.

A run's folder belongs to whoever has locked its file ``lock`` (flock(2)): the supervisor, which
gets the lock from the process that starts it, or a process that cleans up after a dead one.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import secrets
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_carthage import clock
from pytest_carthage.errors import StateError
from pytest_carthage.fabric.container import delegation
from pytest_carthage.state import places, sweeping

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

__all__ = ["alone", "is_alive", "locked", "owner", "start_supervisor"]

_START_S = 20.0
#: how long one that has nothing more to say may take to end
_END_S = 0.2
#: how long the lock of a run is tried for: who only looks has it for an instant
_LOOK_S = 0.2
_POLL_S = 0.005
_BOOTSTRAP = (
    "import sys; sys.path.append({path!r}); "
    "from pytest_carthage.state.supervisor import main; main({folder!r}, {lock}, {ready})"
)


@contextlib.asynccontextmanager
async def alone(root: Path) -> AsyncIterator[None]:
    """One at a time may start a supervisor, in all processes of a user and all tasks of one."""
    fd = os.open(root / ".starting", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                # flock(2) that waits would stop the loop, or a thread that cannot be cancelled
                await asyncio.sleep(_POLL_S)
        yield
    finally:
        os.close(fd)


def is_alive(folder: Path) -> bool:
    """Whether somebody has a run's folder: its supervisor, or who cleans up after one."""
    try:
        fd = os.open(folder / "lock", os.O_RDWR | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        return False
    finally:
        os.close(fd)


def owner(folder: Path) -> str:
    """Process id of a run's supervisor, as it wrote it into its lock."""
    try:
        return (folder / "lock").read_text() or "?"
    except OSError:
        return "?"


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[bool]:
    """Have a run's folder while the block runs; yields False if somebody else has it."""
    fd = _lock(folder)
    try:
        yield fd is not None
    finally:
        if fd is not None:
            os.close(fd)


def _lock(folder: Path) -> int | None:
    try:
        fd = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except (FileNotFoundError, NotADirectoryError):
        return None
    deadline = clock.monotonic_s() + _LOOK_S
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if clock.monotonic_s() > deadline:
                os.close(fd)
                return None
            time.sleep(_POLL_S)
        else:
            return fd


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


async def start_supervisor(folder: Path) -> None:
    """Make a run's folder, and start its supervisor, which is serving when this returns.

    :raises StateError: it did not start, with what it printed.
    :raises OSError: the folder cannot be made.
    """
    beginnings: list[list[str]] = [[]]
    if beginning := delegation.scope():
        beginnings.insert(0, beginning)  # its systemd may refuse to
    for beginning in beginnings:
        process, reading = _spawn(folder, beginning)
        try:
            answer = await _first_word(reading)
        except BaseException:
            _give_up(process, folder)
            raise
        finally:
            os.close(reading)
        if answer == b"ready":
            break
        reason = _reason(process, folder)
        _give_up(process, folder)
    else:
        raise StateError(f"run {folder.name!r}: its supervisor did not start: {reason}")
    # it may outlive this process: Popen must not wait for it
    process.returncode = 0
    _started.append(process.pid)


def _spawn(folder: Path, beginning: list[str]) -> tuple[subprocess.Popen[bytes], int]:
    """Start the process; returns it and a pipe through which it tells that it is ready.

    :param beginning: of its command.
    """
    _reap()
    folder.mkdir(mode=0o700)
    try:
        return _spawn_in(folder, beginning)
    except BaseException:  # as where the disk is full
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _spawn_in(folder: Path, beginning: list[str]) -> tuple[subprocess.Popen[bytes], int]:
    (folder / "id").write_text(secrets.token_hex(6))
    with (folder / "lock").open("w") as lock, (folder / "supervisor.log").open("ab") as log:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        reading, writing = os.pipe()
        package = str(Path(__file__).resolve().parents[2])
        code = _BOOTSTRAP.format(
            path=package, folder=str(folder), lock=lock.fileno(), ready=writing
        )
        try:
            process = subprocess.Popen(
                [*beginning, sys.executable, "-I", "-S", "-c", code],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                env={**os.environ, "CARTHAGE_PATH": sweeping.search_path()},
                pass_fds=(writing, lock.fileno()),
                start_new_session=True,
            )
        except BaseException:
            os.close(reading)
            raise
        finally:
            os.close(writing)
    return process, reading


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


def _reason(process: subprocess.Popen[bytes], folder: Path) -> str:
    """Why a supervisor did not say that it is ready."""
    try:
        process.wait(_END_S)
        end = "it ended"
    except subprocess.TimeoutExpired:
        end = f"no word in {_START_S:g} s"
    text = (folder / "supervisor.log").read_text(errors="replace").strip()
    return places.lack_of_space() or (
        f"{end}; it printed: {text.splitlines()[-1] if text else 'nothing'}"
    )


def _give_up(process: subprocess.Popen[bytes], folder: Path) -> None:
    process.kill()
    process.wait()
    shutil.rmtree(folder, ignore_errors=True)
