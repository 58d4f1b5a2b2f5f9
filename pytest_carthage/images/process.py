"""Programs of the host that make images: each ends with this process, whatever ends it."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
import tempfile
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from pytest_carthage.errors import BuildError
from pytest_carthage.fabric.programs import PATH

__all__ = ["Done", "apart", "flocked", "run"]

_LAST_LINES = 15
_POLL_S = 0.05
#: a line that is longer is cut
_LONGEST_LINE = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """A program that has ended."""

    status: int
    #: standard output, where it was kept
    output: bytes
    #: the last lines of what it said
    lines: tuple[str, ...]

    @property
    def text(self) -> str:
        """What it said last, indented."""
        return "\n".join(f"  {line}" for line in self.lines)


def apart(*, privileged: bool, network: bool) -> list[str]:
    """Beginning of a command that runs in namespaces of its own, see unshare(1).

    All its processes and mounts end with it. Without privileges it is root of a user namespace
    that has the subordinate ids of this user.

    :param network: whether it has the host's network; otherwise none at all.
    """
    mapping = [] if privileged else ["--map-root-user", "--map-auto"]
    alone = [] if network else ["--net"]
    namespaces = ["--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    return ["setpriv", "--pdeathsig", "KILL", "unshare", *mapping, *alone, *namespaces]


async def run(
    argv: Sequence[str],
    *,
    input: bytes = b"",
    environment: Mapping[str, str] | None = None,
    tell: Callable[[str], object] = lambda line: None,
    keep_output: bool = False,
    keep_fds: Sequence[int] = (),
    cwd: Path | None = None,
) -> Done:
    """Run a program of the host; when this is cancelled, it and all that it started are killed.

    :param environment: variables beside those of this process.
    :param tell: is given each line that it says, as it comes.
    :param keep_output: its standard output is wanted, and only standard error is told.
    :raises BuildError: it cannot be started.
    """
    with tempfile.TemporaryFile() as given:
        given.write(input)
        given.seek(0)
        process = await _start(argv, given, environment or {}, keep_output, keep_fds, cwd)
    last: deque[str] = deque(maxlen=_LAST_LINES)
    output = b""

    async def listen(stream: asyncio.StreamReader) -> None:
        while line := await stream.readline():
            text = line.decode(errors="replace").rstrip()
            tell(text)
            if text:
                last.append(text)

    try:
        if keep_output:
            assert process.stdout is not None
            assert process.stderr is not None
            output, _ = await asyncio.gather(process.stdout.read(), listen(process.stderr))
        else:
            assert process.stdout is not None
            await listen(process.stdout)
        status = await process.wait()
    finally:
        if process.returncode is None:
            _kill(process)
            await asyncio.shield(_end_of(process))
    return Done(status=status, output=output, lines=tuple(last))


async def _start(
    argv: Sequence[str],
    given: IO[bytes],
    environment: Mapping[str, str],
    keep_output: bool,
    keep_fds: Sequence[int],
    cwd: Path | None,
) -> asyncio.subprocess.Process:
    before = [] if argv[0] == "setpriv" else ["setpriv", "--pdeathsig", "KILL"]
    try:
        return await asyncio.create_subprocess_exec(
            *before,
            *argv,
            stdin=given,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE if keep_output else asyncio.subprocess.STDOUT,
            pass_fds=tuple(keep_fds),
            start_new_session=True,
            cwd=cwd,
            limit=_LONGEST_LINE,
            env={**os.environ, "PATH": PATH, "LC_ALL": "C.UTF-8", **environment},
        )
    except OSError as error:
        raise BuildError(f"{argv[0]} could not be started: {error}") from error


def _kill(process: asyncio.subprocess.Process) -> None:
    # the group first: a namespace's own init is not in reach of its outer signals
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(ProcessLookupError):
        process.kill()


async def _end_of(process: asyncio.subprocess.Process) -> None:
    """Wait until a program that was killed is gone with all that it started."""
    await process.wait()
    for stream in (process.stdout, process.stderr):
        # its end comes with the last who can write
        while stream is not None and await stream.read(1 << 16):
            pass


@contextlib.asynccontextmanager
async def flocked(
    path: Path, *, shared: bool = False, waiting: Callable[[], object] = lambda: None
) -> AsyncIterator[None]:
    """Hold a lock (flock(2)) that ends with this process; ``waiting`` is called if it is taken."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    told = False
    try:
        while True:
            try:
                fcntl.flock(fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not told:
                    waiting()
                told = True
                # a thread that waits in flock(2) could not be cancelled
                await asyncio.sleep(_POLL_S)
        yield
    finally:
        os.close(fd)
