"""How a bundle is compressed, by the name of its file."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import IO

from pytest_carthage.errors import BundleError
from pytest_carthage.fabric.host.execution import tied
from pytest_carthage.images.exports.tools import require

__all__ = ["compressed", "compressor", "decompressed"]

#: suffix of the file to a program that compresses, and one that undoes it
_COMPRESSORS = {
    ".tar": None,
    ".tar.gz": (("gzip", "-n", "-6", "-c"), ("gzip", "-d", "-c")),
    ".tgz": (("gzip", "-n", "-6", "-c"), ("gzip", "-d", "-c")),
    ".tar.zst": (("zstd", "-q", "-T0", "-6", "-c"), ("zstd", "-q", "-d", "-c")),
    ".tar.xz": (("xz", "-T0", "-3", "-c"), ("xz", "-d", "-c")),
}


def compressor(path: Path, *, undo: bool = False) -> Sequence[str] | None:
    """The program that compresses a file, by its suffix; None: it is plain.

    :raises BundleError: the suffix is unknown.
    """
    for suffix, programs in _COMPRESSORS.items():
        if path.name.endswith(suffix):
            return None if programs is None else programs[undo]
    suffixes = ", ".join(_COMPRESSORS)
    raise BundleError(f"bundle {path}: its name says nothing of how it is packed; try: {suffixes}")


@contextlib.contextmanager
def decompressed(path: Path) -> Iterator[IO[bytes]]:
    """What is in a file, from its beginning.

    :raises BundleError: the suffix is unknown.
    :raises HostError: this host lacks what undoes it.
    """
    command = compressor(path, undo=True)
    with contextlib.ExitStack() as stack:
        file: IO[bytes] = stack.enter_context(path.open("rb"))
        if command is not None:
            require(command[0])
            process = subprocess.Popen(
                tied(command), stdin=file, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            )
            stack.callback(process.wait)
            stack.callback(process.kill)
            assert process.stdout is not None
            file = stack.enter_context(process.stdout)
        yield file


@contextlib.asynccontextmanager
async def compressed(path: Path, command: Sequence[str] | None, doing: str) -> AsyncIterator[int]:
    """A descriptor whose bytes end in a file.

    :raises BundleError: what compresses them failed.
    """
    file = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    if command is None:
        try:
            yield file
        finally:
            os.close(file)
        return
    # it ends with this thread, which is that of the loop
    process = subprocess.Popen(  # noqa: ASYNC220  whose input is a pipe that another may have
        tied(command), stdin=subprocess.PIPE, stdout=file, stderr=subprocess.PIPE
    )
    os.close(file)
    assert process.stdin is not None
    assert process.stderr is not None
    try:
        with contextlib.suppress(BrokenPipeError):  # it tells itself why it ended
            yield process.stdin.fileno()
        process.stdin.close()
        said = await asyncio.to_thread(process.stderr.read)
        if await asyncio.to_thread(process.wait):
            text = said.decode(errors="replace").strip()
            raise BundleError(
                f"{doing}: {command[0]} ended with status {process.returncode}: {text}"
            )
    finally:
        if process.poll() is None:
            process.kill()
        with contextlib.suppress(OSError):
            process.stdin.close()
        process.stderr.close()
        await asyncio.shield(asyncio.to_thread(process.wait))
