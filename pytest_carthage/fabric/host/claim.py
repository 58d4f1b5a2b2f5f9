"""Claims: the right of a process to something on disk, which ends with it, whatever ends it.

A claim is an flock(2) on a file or a folder, by an open descriptor: what a killed process had is
free at once, and nothing has to be cleaned up. It is *exclusive* for who changes something, and
*shared* by those who use it. Not to be confused with a lock, which is what a layout was built from.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import TracebackType

__all__ = ["Claim", "claimed", "is_free", "take"]

_POLL_S = 0.05
_LONGEST_TEXT = 2000


class Claim:
    """Something that this process has, until it is released; a context manager, too."""

    def __init__(self, fd: int) -> None:
        #: the descriptor that has it, also where what was claimed is renamed
        self.fd = fd

    def tell(self, text: str, subject: str = "") -> None:
        """Tell those who wait for a claimed file how far this is, and of what."""
        line = text.partition("\n")[0][:_LONGEST_TEXT]
        with contextlib.suppress(OSError):
            os.ftruncate(self.fd, 0)
            os.pwrite(self.fd, f"{line}\n{subject}\n{os.getpid()}\n".encode(), 0)

    def forget(self) -> None:
        """Take back what was told: it is done."""
        os.ftruncate(self.fd, 0)

    def release(self) -> None:
        """Let others have it."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> Claim:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()


def take(
    path: Path,
    *,
    shared: bool = False,
    wait: bool = False,
    create: int | None = None,
    follow: bool = False,
) -> Claim:
    """Claim a file or a folder.

    :param wait: block until it is free.
    :param create: permission bits of a file that is made where there is none.
    :param follow: of a symbolic link, what it leads to is claimed; without, it is refused.
    :raises BlockingIOError: another process has it.
    :raises FileNotFoundError: there is none, or no longer.
    """
    flags = os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW)
    flags |= os.O_RDONLY if create is None else os.O_RDWR | os.O_CREAT
    operation = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    while True:
        fd = os.open(path, flags, create or 0)
        try:
            fcntl.flock(fd, operation if wait else operation | fcntl.LOCK_NB)
            if _leads_to(path, fd):
                return Claim(fd)
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)  # removed between the two, and perhaps made anew


def is_free(path: Path, *, shared: bool = False) -> bool:
    """Whether a claim could be had now; what is not there is free."""
    try:
        take(path, shared=shared).release()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


@contextlib.asynccontextmanager
async def claimed(
    path: Path, *, shared: bool = False, waiting: Callable[[str], object] = lambda text: None
) -> AsyncIterator[Claim]:
    """Have a file, which is made where there is none, while the block runs.

    :param waiting: is given what another process tells that has it, whenever that changes.
    """
    text: str | None = None
    while True:
        try:
            claim = take(path, shared=shared, create=0o600)
            break
        except BlockingIOError:
            before, text = text, _first_line(path)
            if text != before:
                waiting(text)
            # a thread that waits in flock(2) could not be cancelled
            await asyncio.sleep(_POLL_S)
    with claim:
        yield claim


def _first_line(path: Path) -> str:
    try:
        with path.open(errors="replace") as file:
            return file.readline().strip()
    except FileNotFoundError:
        return ""


def _leads_to(path: Path, fd: int) -> bool:
    try:
        now = path.stat()
    except FileNotFoundError:
        return False
    return os.path.samestat(now, os.fstat(fd))
