"""Debian's archive for machines: the lists and packages that images are built of."""

from __future__ import annotations

import asyncio
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, urlsplit

from pytest_carthage.errors import BuildError
from pytest_carthage.mirror.fetching import Fetching, Unreachable
from pytest_carthage.mirror.message import Answer
from pytest_carthage.mirror.snapshot import Listed, Snapshot
from pytest_carthage.work.debian import sources
from pytest_carthage.work.debian.apt import Apt
from pytest_carthage.work.debian.archive import Archive, native_architecture
from pytest_carthage.work.debian.deb import Deb, printed_debs

if TYPE_CHECKING:
    from pytest_carthage.mirror.message import Request
    from pytest_carthage.mirror.settings import Client, Settings

__all__ = ["Archives"]

_PLACE = re.compile(r"(?P<base>/.*?)?/(?P<kind>dists|pool)/(?P<rest>.+)")
_SUITE = re.compile(r"(?P<suite>[^/]+(?:/updates)?)/(?P<name>.+)")
_POCKET = re.compile(r"-(updates|security|backports|proposed-updates|debug)\b.*$|/updates$")
_FILE = re.compile(r"(?P<name>[^_/]+)_(?P<version>[^_/]+)_(?P<architecture>[^_/]+)\.deb$")
_RELEASES = ("InRelease", "Release", "Release.gpg")
_MOST_SNAPSHOTS = 3


class Archives:
    """Answers for Debian's archive, whichever of its mirrors a machine names."""

    def __init__(self, settings: Settings, fetching: Fetching) -> None:
        self._settings = settings
        self._fetching = fetching
        #: name to versions of what may be had, without epochs
        self._allowed: dict[str, set[str]] = defaultdict(set)
        self._apts: dict[tuple[str, str], Apt] = {}
        #: name of an archive and suite to its lists, the newest first
        self._snapshots: dict[tuple[str, str], list[Snapshot]] = defaultdict(list)
        self._closures: dict[str, set[tuple[str, str]]] = {}
        self._turn = asyncio.Lock()

    def allow(self, packages: Mapping[str, str]) -> None:
        """An image has packages, or a lock: they may be had.

        :param packages: name to version.
        """
        for name, version in packages.items():
            self._allowed[name.partition(":")[0]].add(_plain(version))

    async def answer(self, client: Client, request: Request) -> Answer | None:
        """Answer what is asked of Debian's archive; None: this is none of it."""
        match = _PLACE.fullmatch(request.path)
        if match is None:
            return None
        apt = await asyncio.to_thread(self._apt, client)
        address = f"{request.host}{match['base'] or ''}"
        if not _is_of(apt.archive, address):
            return None
        try:
            if match["kind"] == "pool":
                return await self._package(apt, address, f"pool/{match['rest']}")
            place = _SUITE.fullmatch(match["rest"])
            if place is None:
                return Answer.refused(f"there is no {request.url}", status=404)
            return await self._list(apt, address, place["suite"], place["name"])
        except (BuildError, Unreachable) as error:
            return Answer.refused(f"{error}", status=503)

    def cache_of(self, client: Client) -> Apt:
        """By which way this host reaches what a machine asks for."""
        return self._apt(client)

    # lists

    async def _list(self, apt: Apt, address: str, suite: str, name: str) -> Answer:
        listed = None
        if _POCKET.sub("", suite) == apt.archive.suite:
            listed = await self._listed(apt, suite, name)
        if listed is not None:
            return Answer(content=listed.opened(), changed_at=listed.changed_at)
        url = f"{_outside(apt.archive, address, suite)}/dists/{suite}/{name}"
        path = await self._fetching.fetch(url, apt.cache, lasting="/by-hash/" in name)
        if path is None:
            return Answer.refused(f"Debian's archive has no {suite}/{name}", status=404)
        return Answer(content=path)

    async def _listed(self, apt: Apt, suite: str, name: str) -> Listed | None:
        """A file of lists, as the builder has them."""
        snapshots = self._snapshots[apt.archive.name, suite]
        if name in _RELEASES or not snapshots:
            await self._look(apt, suite)
        *_, digest = name.rpartition("/by-hash/SHA256/")
        for snapshot in snapshots:
            listed = snapshot.by_hash.get(digest)
            if listed is not None:
                return listed
        return snapshots[0].by_name.get(name) if snapshots else None

    async def _look(self, apt: Apt, suite: str) -> None:
        """Take in the lists of a suite as they are now."""
        snapshots = self._snapshots[apt.archive.name, suite]
        index = await self._index(apt)
        async with self._turn, apt.lists.unchanged(index):
            snapshot = await asyncio.to_thread(Snapshot, index / "lists", suite)
        if snapshots and snapshot.by_hash.keys() == snapshots[0].by_hash.keys():
            snapshot.close()
            return
        snapshots.insert(0, snapshot)
        for old in snapshots[_MOST_SNAPSHOTS:]:
            old.close()
        del snapshots[_MOST_SNAPSHOTS:]

    async def _index(self, apt: Apt) -> Path:
        """Lists of the archive; where images are all there is to be had, those of their making."""
        index = apt.cache.index(())
        is_fixed = not (self._settings.is_open or self._settings.names)
        if is_fixed and await asyncio.to_thread((index / "updated").exists):
            await asyncio.to_thread(apt.cache.prepare, index)
            return index
        return await apt.lists.fresh(b"", (), print)

    # packages

    async def _package(self, apt: Apt, address: str, path: str) -> Answer:
        match = _FILE.search(path)
        if match is None:
            return Answer.refused(f"{path} is no package", status=404)
        name, version = match["name"], _plain(unquote(match["version"]))
        if not await self._may(apt, name, version):
            return Answer.refused(self._refusal(name, version))
        deb, suite = await self._find(apt, path)
        url = f"{_outside(apt.archive, address, suite)}/{quote(path, safe='/~+:')}"
        if deb is None:
            kept = list(apt.cache.downloads.glob(f"{name}_*{version}_{match['architecture']}.deb"))
            file = kept[0] if kept else await self._fetching.fetch(url, apt.cache, lasting=True)
        else:
            target = apt.cache.downloads / deb.file_name
            file = await self._fetching.fetch_to(url, target, apt.cache, size=deb.size)
        if file is None:
            return Answer.refused(
                f"{name} {version} is no longer in the archive; try: apt-get update in the machine",
                status=404,
            )
        return Answer(content=file)

    async def _find(self, apt: Apt, path: str) -> tuple[Deb | None, str]:
        """A package by its path, and the suite that has it."""
        for suite in _suites(apt.archive):
            if not self._snapshots[apt.archive.name, suite]:
                await self._look(apt, suite)
            for snapshot in self._snapshots[apt.archive.name, suite]:
                if deb := await asyncio.to_thread(snapshot.find, path):
                    return deb, suite
        return None, ""

    async def _may(self, apt: Apt, name: str, version: str) -> bool:
        if self._settings.is_open or version in self._allowed.get(name, ()):
            return True
        if not self._settings.names:
            return False
        return (name, version) in await self._closure(apt)

    async def _closure(self, apt: Apt) -> set[tuple[str, str]]:
        """Name and version of what may be had by name, with what it depends on."""
        index = await self._index(apt)
        async with self._turn:
            if apt.archive.name not in self._closures:
                debs = self._closures[apt.archive.name] = set()
                for names in _together(self._settings.names):
                    debs |= await _with_dependencies(apt, index, names)
                    if debs:
                        break
            return self._closures[apt.archive.name]

    def _refusal(self, name: str, version: str) -> str:
        layout, names = self._settings.layout, [*self._settings.names, name]
        remedy = (
            f'packages = {names} or "open" in the layout, or the package in the machine\'s image'
        )
        if others := sorted(self._allowed.get(name, ())):
            having = ", ".join(others)
            return f"{name} {version}: images of layout {layout} have {having}; try: {remedy}"
        return f"{name} {version} is in no image of layout {layout}; try: {remedy}"

    # ways

    def _apt(self, client: Client) -> Apt:
        key = client.suite, client.mirror
        if key not in self._apts:
            archive = Archive.of(
                suite=client.suite or "stable",
                architecture=native_architecture(),
                mirror=client.mirror,
            )
            folder, offline = Path(self._settings.folder), self._settings.offline
            self._apts[key] = Apt.of(archive, folder, offline=offline)
        return self._apts[key]


async def _with_dependencies(apt: Apt, index: Path, names: list[str]) -> set[tuple[str, str]]:
    debs: set[tuple[str, str]] = set()
    async with apt.lists.unchanged(index):
        for chosen in names:
            argv = ["apt-get", "-q", "--yes", "--print-uris", "-oAPT::Install-Recommends=true"]
            ended = await apt.cache.apt(index, [*argv, "install", "--", *chosen.split()])
            text = ended.output.decode(errors="replace")
            debs |= {(deb.name, _plain(deb.version)) for deb in printed_debs(text)}
    return debs


def _together(names: object) -> Iterator[list[str]]:
    """All at once, or else, as those of two machines may conflict, each by itself."""
    each = [str(name) for name in names] if isinstance(names, list | tuple) else []
    yield [" ".join(each)]
    yield each


def _plain(version: str) -> str:
    """A version as names of files have it: without its epoch."""
    return version.rpartition(":")[2]


def _suites(archive: Archive) -> list[str]:
    return list(
        dict.fromkeys(suite for _, suites in sources.places(archive.sources) for suite in suites)
    )


def _bare(address: str) -> str:
    """An address without its scheme."""
    parts = urlsplit(address if "://" in address else f"//{address}")
    return f"{parts.netloc}{parts.path}".rstrip("/")


def _is_of(archive: Archive, address: str) -> bool:
    """Whether an address is one of the archive's, or of Debian's own mirrors."""
    if address in (_bare(uri) for uri, _ in sources.places(archive.sources)):
        return True
    host = address.partition("/")[0].partition(":")[0]
    return host == "debian.org" or host.endswith(".debian.org")


def _outside(archive: Archive, address: str, suite: str) -> str:
    """Where this host reaches what a machine asks of an address."""
    places = list(sources.places(archive.sources))
    for uri, suites in places:
        if suite in suites:
            return uri
    is_security = "security" in address
    for uri, suites in places:
        if is_security == any("security" in name or "/updates" in name for name in suites):
            return uri
    return places[0][0] if places else f"http://{address}"
