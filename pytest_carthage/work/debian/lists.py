"""Package lists of an archive: fetched again when they are old."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pytest_carthage import clock
from pytest_carthage.errors import BuildError
from pytest_carthage.fabric.host.claim import claimed
from pytest_carthage.fabric.host.execution import Ended
from pytest_carthage.work import space
from pytest_carthage.work.debian.cache import Cache

__all__ = ["Lists", "Note"]

#: is told how far it is, in a few words
Note = Callable[[str], None]

#: lists that are older are fetched again
_FRESH_S = 3600.0
_CLAIM = "lock"
_NO_SUCH_SUITE = re.compile(
    r"does not have a Release file|404 +Not Found|File not found|Failed to stat"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lists:
    """Package lists of an archive, in its folder."""

    cache: Cache

    async def fresh(
        self, status: bytes, names: Sequence[str], note: Note, *, since: float = 0.0
    ) -> Path:
        """Have them; returns the folder that they are in.

        :param since: the time after which they must have been fetched.
        :raises BuildError: they could not be fetched; offline, there are none.
        """
        index = self.cache.index(names, status)
        await asyncio.to_thread(self.cache.prepare, index)
        if self._is_fresh(index, since):
            return index

        def waiting(text: str) -> None:
            note("package lists are being updated by another process")

        async with claimed(index / _CLAIM, waiting=waiting):
            if not self._is_fresh(index, since):
                await self._update(index, note)
        return index

    @contextlib.asynccontextmanager
    async def unchanged(self, index: Path) -> AsyncIterator[None]:
        """Keep the lists in a folder as they are while the block runs."""
        async with claimed(index / _CLAIM, shared=True):
            yield

    def _is_fresh(self, index: Path, since: float) -> bool:
        try:
            updated_at = (index / "updated").stat().st_mtime
        except FileNotFoundError:
            if self.cache.must_be_here:
                archive = self.cache.archive
                raise BuildError(
                    f"packages of {archive}: offline, and there are no package lists of it; what "
                    f"was missing:\n{archive.listed}\n"
                    "try: once with a network, or pytest-carthage unbundle"
                ) from None
            return False
        if self.cache.offline:
            return True
        return updated_at >= max(since, clock.unix_s() - _FRESH_S)

    async def _update(self, index: Path, note: Note) -> None:
        note(f"updating package lists of Debian {self.cache.archive.suite}")
        await asyncio.to_thread(_remove_statuses, index)
        ended = await self.cache.apt(index, ["apt-get", "-q", "update"])
        stamp = index / "updated"
        if ended.status == 0:
            stamp.touch()
        elif stamp.exists():
            errors = (line[3:] for line in ended.lines if line.startswith("E: "))
            why = next(errors, "no reason told")
            note(f"package lists could not be updated, older ones are used ({why})")
        else:
            raise BuildError(self._failure(ended))

    def _failure(self, ended: Ended) -> str:
        archive = self.cache.archive
        begin = (
            f"package lists of {archive}: apt-get update ended "
            f"with status {ended.status}; the last lines:\n{ended.text}\n"
        )
        if _NO_SUCH_SUITE.search(ended.text):
            return (
                f"{begin}try: another suite; the mirrors have no {archive.suite!r} (or are old); "
                f"these were asked:\n{archive.listed}"
            )
        if full := space.advice(ended.text, self.cache.folder):
            return f"{begin}{full}"
        if "NO_PUBKEY" in ended.text or "not signed" in ended.text:
            return (
                f"{begin}try: a newer debian-archive-keyring, which has the keys of new suites, or "
                "keyring=, the keys of an archive that is another one than Debian's"
            )
        return f"{begin}try: apt-get update on this host, whose mirrors are used"


def _remove_statuses(index: Path) -> None:
    """Remove what those left who were killed; nobody else has the lists."""
    for path in index.glob("status-*"):
        path.unlink(missing_ok=True)
