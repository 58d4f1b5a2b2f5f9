"""Programs of the host, run to their end: each ends with this process, whatever ends it."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from pytest_carthage.errors import BuildError
from pytest_carthage.fabric import inheritance
from pytest_carthage.fabric.host.group import Group
from pytest_carthage.fabric.host.programs import PATH

__all__ = ["Ended", "environment", "run", "tied"]

_LAST_LINES = 15
#: a line that is longer is cut
_LONGEST_LINE = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
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


def tied(argv: Sequence[str]) -> list[str]:
    """A command that is killed when the process that starts it ends."""
    return list(argv) if argv[0] == "setpriv" else ["setpriv", "--pdeathsig", "KILL", *argv]


def environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of programs: what they need of ours, where they are, and their language.

    What they start in turn may be an image's own, as scripts of packages are.
    """
    return {**inheritance.environment(), "PATH": PATH, "LC_ALL": "C.UTF-8", **(more or {})}


async def run(
    argv: Sequence[str],
    *,
    input: bytes = b"",
    env: Mapping[str, str] | None = None,
    tell: Callable[[str], object] = lambda line: None,
    keep_output: bool = False,
    keep_fds: Sequence[int] = (),
    cwd: Path | None = None,
) -> Ended:
    """Run a program of the host; when this is cancelled, it and all that it started are killed.

    :param env: variables beside those of this process.
    :param tell: is given each line that it says, as it comes.
    :param keep_output: its standard output is wanted, and only standard error is told.
    :raises BuildError: it cannot be started.
    """
    with tempfile.TemporaryFile() as file:
        file.write(input)
        file.seek(0)
        starting = asyncio.create_task(_start(argv, file, env or {}, keep_output, keep_fds, cwd))
        try:
            process, group = await asyncio.shield(starting)
        except asyncio.CancelledError:
            # asyncio would kill it alone, and leave what it has started by then
            await asyncio.shield(_end_at_once(starting))
            raise
    last: deque[str] = deque(maxlen=_LAST_LINES)
    output = b""

    async def listen(stream: asyncio.StreamReader) -> None:
        while line := await stream.readline():
            text = line.decode(errors="replace").rstrip()
            tell(text)
            if text:
                last.append(text)

    assert process.stdout is not None
    try:
        if keep_output:
            assert process.stderr is not None
            output, _ = await asyncio.gather(process.stdout.read(), listen(process.stderr))
        else:
            await listen(process.stdout)
        status = await process.wait()
    finally:
        if process.returncode is None:
            _kill(process, group)
            await asyncio.shield(_until_gone(process))
        group.close()
    return Ended(status=status, output=output, lines=tuple(last))


async def _start(
    argv: Sequence[str],
    input: IO[bytes],
    env: Mapping[str, str],
    keep_output: bool,
    keep_fds: Sequence[int],
    cwd: Path | None,
) -> tuple[asyncio.subprocess.Process, Group]:
    try:
        process = await asyncio.create_subprocess_exec(
            *tied(argv),
            stdin=input,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE if keep_output else asyncio.subprocess.STDOUT,
            pass_fds=tuple(keep_fds),
            start_new_session=True,
            cwd=cwd,
            limit=_LONGEST_LINE,
            env=environment(env),
        )
    except OSError as error:
        raise BuildError(f"{argv[0]} could not be started: {error}") from error
    return process, Group(process.pid)


async def _end_at_once(
    starting: asyncio.Task[tuple[asyncio.subprocess.Process, Group]],
) -> None:
    with contextlib.suppress(BuildError):
        process, group = await starting
        _kill(process, group)
        group.close()
        await _until_gone(process)


def _kill(process: asyncio.subprocess.Process, group: Group) -> None:
    # the group first: a namespace's own init is not in reach of its outer signals
    group.kill()
    with contextlib.suppress(ProcessLookupError):
        process.kill()


async def _until_gone(process: asyncio.subprocess.Process) -> None:
    """Wait until a program that was killed is gone with all that it started."""
    await process.wait()
    for stream in (process.stdout, process.stderr):
        # its end comes with the last who can write
        while stream is not None and await stream.read(1 << 16):
            pass
