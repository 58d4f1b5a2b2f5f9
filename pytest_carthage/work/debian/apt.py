"""Packages from outside: what a file system lacks is resolved and downloaded by the host's apt."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_carthage.errors import BuildError
from pytest_carthage.work.debian.archive import Archive
from pytest_carthage.work.debian.cache import Cache
from pytest_carthage.work.debian.deb import Deb, printed_debs
from pytest_carthage.work.debian.downloads import Downloads, Superseded
from pytest_carthage.work.debian.lists import Lists, Note
from pytest_carthage.work.debian.refusal import refusal
from pytest_carthage.work.debian.status import as_installed, lacking

__all__ = ["Apt"]

_INSTALL = ("-q", "--yes", "--no-install-recommends", "--allow-downgrades")
#: priorities that a variant has beside what is essential, see mmdebstrap(1)
_PRIORITIES = {
    "minbase": ("required",),
    "required": ("required",),
    "buildd": ("required",),
    "-": ("required", "important"),
    "important": ("required", "important"),
    "standard": ("required", "important", "standard"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Apt:
    """Resolves and fetches packages of one archive."""

    cache: Cache
    lists: Lists
    downloads: Downloads

    @classmethod
    def of(cls, archive: Archive, folder: Path, *, offline: bool = False) -> Apt:
        """That of an archive.

        :param folder: for lists and downloads of all archives.
        """
        cache = Cache(archive=archive, folder=folder / archive.name, offline=offline)
        lists = Lists(cache=cache)
        return cls(cache=cache, lists=lists, downloads=Downloads(cache=cache, lists=lists))

    @property
    def archive(self) -> Archive:
        """Where packages come from."""
        return self.cache.archive

    # what is wanted

    async def resolve(self, status: bytes, names: Sequence[str], *, note: Note) -> list[Deb]:
        """Find what a file system lacks to have these packages, without recommended ones.

        What it has already stays as it is, unless another version is asked for.

        :param status: text of its ``/var/lib/dpkg/status``.
        :param names: as apt takes them: ``name``, ``name=version``, ``name:architecture``.
        :raises BuildError: there is no such package; it conflicts; offline, lists are missing.
        """
        wanted = lacking(status, names, self.archive.architecture)
        if not wanted:
            return []
        return await self._resolve(status, ["install", "--", *wanted], wanted, note)

    async def get(
        self, status: bytes, names: Sequence[str], *, note: Note
    ) -> tuple[list[Deb], list[Path]]:
        """Resolve and fetch; once more where the archive has changed in between."""
        return await self._again(lambda: self.resolve(status, names, note=note), note)

    # a whole base

    async def resolve_base(self, variant: str, names: Sequence[str], *, note: Note) -> list[Deb]:
        """Find what mmdebstrap(1) would install from nothing, in two steps as it does.

        :raises BuildError: as :meth:`resolve`.
        """
        suite, architecture = self.archive.suite, self.archive.architecture
        where = f"?or(?archive(^{suite}$),?codename(^{suite}$)),?architecture({architecture})"
        first = ["dist-upgrade"]
        if variant != "apt":
            first = ["install", "--", f"?narrow({where},?essential)"]
        debs = await self._resolve(b"", first, [], note)
        if not debs:
            raise BuildError(
                f"{self.archive}: the archive has no essential packages; "
                f"try: another suite, or another mirror, than\n{self.archive.listed}"
            )
        more = [*names, *(["build-essential"] if variant == "buildd" else [])]
        priorities = _PRIORITIES.get(variant, ())
        if priorities:
            chosen = ",".join(f"?priority({priority})" for priority in priorities)
            more.append(f"?narrow({where},?and(?or({chosen}),?not(?essential)))")
        if more:
            status = await self._status_of(debs)
            debs += await self._resolve(status, ["install", "--", *more], names, note)
        return debs

    async def get_base(
        self, variant: str, names: Sequence[str], *, note: Note
    ) -> tuple[list[Deb], list[Path]]:
        """Resolve a base, and fetch its packages."""
        return await self._again(lambda: self.resolve_base(variant, names, note=note), note)

    @contextlib.asynccontextmanager
    async def listed(self, names: Sequence[str] = ()) -> AsyncIterator[list[Path]]:
        """Files of the package lists, which stay as they are while the block runs."""
        index = self.cache.index(names)
        async with self.lists.unchanged(index):
            yield [path for path in (index / "lists").iterdir() if path.is_file()]

    # inside

    async def _again(
        self, resolve: Callable[[], Coroutine[Any, Any, list[Deb]]], note: Note
    ) -> tuple[list[Deb], list[Path]]:
        debs = await resolve()
        try:
            return debs, await self.downloads.fetch(debs, note=note)
        except Superseded:
            debs = await resolve()
            return debs, await self.downloads.fetch(debs, note=note)

    async def _resolve(
        self, status: bytes, command: Sequence[str], asked: Sequence[str], note: Note
    ) -> list[Deb]:
        index = await self.lists.fresh(status, asked, note)
        async with self.lists.unchanged(index):
            # apt wants a path to it, that of a descriptor will not do
            with tempfile.NamedTemporaryFile(dir=index, prefix="status-") as file:
                file.write(status)
                file.flush()
                own = ["-o", f"Dir::State::status={file.name}"]
                argv = ["apt-get", *_INSTALL, "--print-uris", *own, *command]
                ended = await self.cache.apt(index, argv)
            if ended.status:
                raise BuildError(await refusal(self.cache, index, asked, ended))
        return list(printed_debs(ended.output.decode(errors="replace")))

    async def _status_of(self, debs: Sequence[Deb]) -> bytes:
        """A dpkg ``status`` as if just these were installed."""
        index = self.cache.index(())
        async with self.lists.unchanged(index):
            ended = await self.cache.apt(
                index, ["apt-cache", "show", "--", *(deb.request for deb in debs)]
            )
        return as_installed(ended.output.decode(errors="replace"))
