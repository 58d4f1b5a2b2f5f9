"""Who builds what now: one process at a time for each layer."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

from pytest_carthage.fabric.host import claim
from pytest_carthage.fabric.host.claim import Claim

__all__ = ["Claims"]

_SUFFIX = ".lock"


class Claims:
    """Claims on the work for layers: a file each, which tells how far it is."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, key: str) -> Path:
        """The file that is claimed by who works for a key."""
        return self.folder / f"{key}{_SUFFIX}"

    def paths(self) -> list[Path]:
        """Files that were ever claimed, and not removed since."""
        return sorted(self.folder.glob(f"*{_SUFFIX}"))

    @contextlib.asynccontextmanager
    async def claimed(self, key: str, waiting: Callable[[str], object]) -> AsyncIterator[Claim]:
        """Have the work for a key to oneself while the block runs.

        :param waiting: is told what another process does that has it, whenever that changes.
        """

        def tell(text: str) -> None:
            waiting(f"waits for another build of it{f': {text}' if text else ''}")

        async with claim.claimed(self.path(key), waiting=tell) as mine:
            yield mine
            mine.forget()

    @contextlib.contextmanager
    def if_free(self, key: str) -> Iterator[bool]:
        """Claim the work for a key if nobody has it, and remove the claim's file at the end.

        Yields True if it could be claimed.
        """
        path = self.path(key)
        try:
            mine = claim.take(path, create=0o600)
        except BlockingIOError:
            yield False
            return
        with mine:
            yield True
            path.unlink(missing_ok=True)
