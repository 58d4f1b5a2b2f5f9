"""Folders in use: who holds one keeps others from removing it; a hold ends with the process.

A hold is a shared claim on the folder itself, so that it stays where the folder is moved.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from pytest_carthage.fabric.host.claim import Claim, take

__all__ = ["Holding", "alone"]


class Holding:
    """Folders that others must not remove until they are released; a context manager, too."""

    def __init__(self) -> None:
        self._claims: dict[Path, Claim] = {}

    def add(self, folder: Path, *, wait: bool = True) -> bool:
        """Hold one more; False: it is gone.

        :param wait: block while somebody removes it, or looks whether they may.
        :raises BlockingIOError: somebody does, and it is not to be waited for.
        """
        if folder not in self._claims:
            try:
                # a layer that is lent to another store is a link there
                self._claims[folder] = take(folder, shared=True, wait=wait, follow=True)
            except FileNotFoundError:
                return False
        return True

    async def added(self, folder: Path) -> bool:
        """Hold one more, as :meth:`add`; where that has to wait, a thread does."""
        with contextlib.suppress(BlockingIOError):
            return self.add(folder, wait=False)
        adding = asyncio.ensure_future(asyncio.to_thread(self.add, folder))
        try:
            return await asyncio.shield(adding)
        except asyncio.CancelledError:
            # what the thread still gets is ours to release
            await asyncio.wait([adding])
            raise

    def release(self) -> None:
        """Let go of all of them."""
        while self._claims:
            self._claims.popitem()[1].release()

    def __enter__(self) -> Holding:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[bool]:
    """Keep others from beginning to hold a folder while the block runs.

    Yields True if that is so; False if somebody holds it, or it is not there.
    """
    try:
        claim = take(folder, follow=True)
    except (BlockingIOError, FileNotFoundError):
        yield False
        return
    with claim:
        yield True
