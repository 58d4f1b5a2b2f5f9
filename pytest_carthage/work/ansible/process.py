"""The process of Ansible: started under a guard, heard, and ended with all that it started."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_carthage.work.ansible.station import Station

__all__ = ["execute"]


async def execute(
    command: list[str],
    *,
    env: dict[str, str],
    cwd: Path,
    log: Path,
    reads: Path,
    hear: Callable[[bytes], None],
    station: Station,
) -> int:
    """Run the program to its end, and hear its events; cancelled, kill all of it.

    :param station: where it runs.
    :param log: what it prints.
    :param reads: the callback writes there what was opened for reading.
    :param hear: is given each event, a line of the callback.
    :returns: its exit status.
    """
    read, write = os.pipe()
    try:
        env = {
            **env,
            "CARTHAGE_ANSIBLE_EVENTS": str(write),
            "CARTHAGE_ANSIBLE_READS": str(reads),
        }
        with log.open("wb") as output:
            # its standard input is what keeps it alive: closed, or lost with this
            # process, the guard ends ansible-playbook and whatever that started
            process = await asyncio.create_subprocess_exec(
                *station.command(env),
                *command,
                stdin=asyncio.subprocess.PIPE,
                stdout=output,
                stderr=output,
                env=env,
                cwd=cwd,
                pass_fds=(write, *station.descriptors),
                start_new_session=True,
            )
    except BaseException:
        os.close(read)
        raise
    finally:
        os.close(write)
    assert process.stdin is not None
    async with _reader(read) as events:
        hearing = asyncio.create_task(_hear(events, hear))
        try:
            status = await process.wait()
            # a process that the playbook left running may hold the pipe open
            with suppress(TimeoutError):
                async with asyncio.timeout(0.5):
                    await asyncio.shield(hearing)
        finally:
            process.stdin.close()
            hearing.cancel()
            if process.returncode is None:
                await asyncio.shield(process.wait())
            await asyncio.gather(hearing, return_exceptions=True)
    return status


async def _hear(events: asyncio.StreamReader, hear: Callable[[bytes], None]) -> None:
    while line := await events.readline():
        hear(line)


@asynccontextmanager
async def _reader(fd: int) -> AsyncIterator[asyncio.StreamReader]:
    """A stream of lines from a pipe; closes it."""
    reader = asyncio.StreamReader(limit=1 << 20)
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(fd, "rb", buffering=0)
    )
    try:
        yield reader
    finally:
        transport.close()
