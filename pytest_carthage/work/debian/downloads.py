"""Packages of an archive that were downloaded, once for all who want them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import secrets
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from pytest_carthage import clock
from pytest_carthage.errors import BuildError
from pytest_carthage.fabric.host.claim import claimed
from pytest_carthage.fabric.host.execution import Ended
from pytest_carthage.work import space
from pytest_carthage.work.debian.cache import Cache
from pytest_carthage.work.debian.deb import Deb
from pytest_carthage.work.debian.lists import Lists, Note

__all__ = ["Downloads", "Superseded"]

_GONE = re.compile(
    r"404 +Not Found|Failed to stat|File not found|Hash Sum mismatch|unexpected size"
    r"|was not found$|Can't find a source to download",
    re.MULTILINE,
)
_MOST_NAMES = 10


class Superseded(BuildError):
    """A version is no longer to be had: what was resolved is to be resolved again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Downloads:
    """Packages of an archive, in its folder."""

    cache: Cache
    lists: Lists

    async def fetch(self, debs: Sequence[Deb], *, note: Note) -> list[Path]:
        """Have the files of packages, in the same order.

        :raises Superseded: a version that was resolved is no longer there.
        :raises BuildError: something could not be fetched; offline, something is missing.
        """
        await asyncio.to_thread(self.cache.prepare)
        if self._lacking(debs):

            def waiting(text: str) -> None:
                note("packages are being downloaded by another process")

            async with claimed(self.cache.folder / "archives.lock", waiting=waiting):
                lacking = self._lacking(debs)
                if lacking and self.cache.must_be_here:
                    raise BuildError(self._not_here(lacking))
                if lacking:
                    await self._download(lacking, note)
        paths = [self._path(deb) for deb in debs]
        for path in paths:
            with contextlib.suppress(OSError):  # somebody else's: it is read all the same
                os.utime(path)
        return paths

    def _path(self, deb: Deb) -> Path:
        return self.cache.downloads / deb.file_name

    def _lacking(self, debs: Sequence[Deb]) -> list[Deb]:
        def is_here(deb: Deb) -> bool:
            try:
                return self._path(deb).stat().st_size == deb.size
            except OSError:
                return False

        return [deb for deb in debs if not is_here(deb)]

    def _not_here(self, lacking: Sequence[Deb]) -> str:
        names = ", ".join(deb.request for deb in lacking[:_MOST_NAMES])
        more = len(lacking) - _MOST_NAMES
        return (
            f"packages of {self.cache.archive}: offline, and not in the cache: {names}"
            f"{f' and {more} more' if more > 0 else ''}; "
            "try: once with a network, or pytest-carthage unbundle"
        )

    async def _download(self, debs: Sequence[Deb], note: Note) -> None:
        ended = await self._download_once(debs, note)
        if ended.status and _GONE.search("\n".join(ended.lines)):
            now = clock.unix_s()
            await self.lists.fresh(b"", [deb.request for deb in debs], note, since=now)
            ended = await self._download_once(self._lacking(debs), note)
            gone = [deb.request for deb in self._lacking(debs)]
            if ended.status and _GONE.search("\n".join(ended.lines)):
                raise Superseded(
                    f"packages of {self.cache.archive}: no longer to be had: "
                    f"{', '.join(gone)}; the last lines:\n{ended.text}\n"
                    "try: again, with what the archive has now"
                )
        if ended.status:
            full = space.advice(ended.text, self.cache.folder)
            raise BuildError(
                f"packages of {self.cache.archive}: the download ended with "
                f"status {ended.status}; the last lines:\n{ended.text}\n"
                + (full or "try: apt-get update on this host, whose mirrors are used")
            )

    async def _download_once(self, debs: Sequence[Deb], note: Note) -> Ended:
        index = self.cache.index([deb.request for deb in debs])
        # removed by whoever has the claim next, if this is killed
        for left in self.cache.downloads.glob("new-*"):
            shutil.rmtree(left, ignore_errors=True)
        new = self.cache.downloads / f"new-{secrets.token_hex(4)}"
        new.mkdir(mode=0o755)
        if os.geteuid() == 0:
            with contextlib.suppress(LookupError, OSError):
                shutil.chown(new, "_apt")  # who apt is while it downloads
        begun = 0

        def tell(line: str) -> None:
            nonlocal begun
            if line.startswith("Get:"):
                begun += 1
                if match := re.search(r" (\S+) \S+ \S+ \[", line):
                    note(f"downloading {match[1]} ({begun} of {len(debs)})")

        try:
            ended = await self.cache.apt(
                index,
                ["apt-get", "-q", "download", "--", *(deb.request for deb in debs)],
                tell=tell,
                cwd=new,
            )
            self._take_in(new, debs)
            return ended
        finally:
            shutil.rmtree(new, ignore_errors=True)

    def _take_in(self, new: Path, debs: Sequence[Deb]) -> None:
        """Keep the files that were downloaded whole."""
        by_name = {unquote(deb.file_name): deb for deb in debs}
        for path in new.glob("*.deb"):
            deb = by_name.get(unquote(path.name))
            # a file of a mirror on this host is linked to
            if deb is not None and path.stat().st_size == deb.size:
                ready = self.cache.downloads / f"{deb.file_name}.new"
                shutil.copyfile(path, ready) if path.is_symlink() else path.rename(ready)
                ready.chmod(0o644)
                ready.rename(self._path(deb))
