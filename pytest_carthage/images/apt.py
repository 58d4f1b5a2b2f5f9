"""Packages from outside: what a file system lacks is resolved and downloaded by the host's apt.

Lists and archives are in a folder of their own, whatever the host itself has: its own state is
neither used nor touched. Processes that ask for the same at once share it by flock(2).
"""

from __future__ import annotations

import asyncio
import contextlib
import difflib
import functools
import hashlib
import os
import re
import secrets
import shutil
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from pytest_carthage.errors import BuildError, HostError, Problem
from pytest_carthage.fabric.programs import PATH
from pytest_carthage.images import sources
from pytest_carthage.images.process import Done, flocked, run

if TYPE_CHECKING:
    from pytest_carthage.model.image import Image

__all__ = ["Apt", "Deb", "Superseded", "installed", "native_architecture", "simulate_base"]

Note = Callable[[str], None]

#: package lists that are older are fetched again
_FRESH_S = 3600.0

_INSTALL = ("-q", "--yes", "--no-install-recommends", "--allow-downgrades")
_URI = re.compile(r"'(?P<url>[^']+)' (?P<file>\S+_\S+_\S+\.deb) (?P<size>\d+) SHA256:(?P<hash>\w+)")
_NOT_THERE = re.compile(
    r"E: (?:Unable to locate package |Package ')(?P<name>[^\s']+)"
    r"(?:$|' has no installation candidate)"
)
_NO_VERSION = re.compile(r"E: Version '(?P<version>[^']+)' for '(?P<name>[^']+)' was not found")
_GONE = re.compile(
    r"404 +Not Found|Failed to stat|File not found|Hash Sum mismatch|unexpected size"
    r"|was not found$|Can't find a source to download",
    re.MULTILINE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Deb:
    """One package in one version."""

    name: str
    version: str
    architecture: str
    #: where it was found; without passwords
    url: str
    #: bytes
    size: int
    sha256: str

    @property
    def file_name(self) -> str:
        """What its file is called."""
        return f"{self.name}_{self.version.replace(':', '%3a')}_{self.architecture}.deb"

    @property
    def request(self) -> str:
        """How apt is asked for just this one."""
        of = "" if self.architecture == "all" else f":{self.architecture}"
        return f"{self.name}{of}={self.version}"


class Superseded(BuildError):
    """A version is no longer to be had: what was resolved is to be resolved again."""


def native_architecture() -> str:
    """Debian's name of this host's architecture, as in ``"amd64"``.

    :raises HostError: there is no dpkg here.
    """
    return _native_architecture()


@functools.cache
def _native_architecture() -> str:
    try:
        return subprocess.run(
            ["dpkg", "--print-architecture"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PATH": PATH},
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        raise HostError(
            [
                Problem(
                    who="images",
                    what="no dpkg, which knows this host's architecture",
                    remedy="build Debian images on a host that is Debian or derived from it",
                )
            ]
        ) from None


def installed(status: bytes) -> dict[str, str]:
    """Name to version of what is installed, by the text of dpkg's ``status``.

    A package of an architecture that the others are not of is called ``name:architecture``.
    """
    rows = [
        (row["package"], row.get("version", ""), row.get("architecture", ""))
        for row in _paragraphs(status.decode(errors="replace"))
        if row.get("status", "").endswith(" installed")
    ]
    of = [architecture for _, _, architecture in rows if architecture != "all"]
    native = max(set(of), key=of.count, default="")
    return {
        name if architecture in ("all", native) else f"{name}:{architecture}": version
        for name, version, architecture in rows
    }


def _paragraphs(text: str) -> Iterator[dict[str, str]]:
    """Fields that fit on a line of each paragraph, names in lower case."""
    for block in text.split("\n\n"):
        row: dict[str, str] = {}
        for line in block.splitlines():
            name, colon, value = line.partition(":")
            if colon and not line[0].isspace():
                row[name.lower()] = value.strip()
        if "package" in row:
            yield row


@dataclass(frozen=True, slots=True, kw_only=True)
class Apt:
    """Where packages of one suite and architecture come from."""

    suite: str
    architecture: str
    #: entries in deb822 form, without passwords
    sources: str
    #: lists, archives and configuration are kept in it
    folder: Path
    #: nothing is fetched; what is missing is named
    offline: bool = False
    #: whether all that it knows is on this host's own disks
    is_local: bool = False
    #: text of an apt.conf(5): how this host reaches the archives
    options: str = field(default="", repr=False)
    #: text of an apt_auth.conf(5)
    logins: str = field(default="", repr=False)

    @classmethod
    def of(
        cls,
        *,
        suite: str,
        architecture: str,
        mirror: str = "",
        cache: Path,
        offline: bool = False,
    ) -> Apt:
        """Packages of a suite of Debian, by the same way as the host's own apt.

        :param mirror: address of an archive that is used instead; a path: a folder of this host.
        :param cache: folder for lists and archives of all suites.
        """
        text, logins = sources.without_logins(
            sources.mirror_entries(suite, mirror)
            if mirror
            else sources.sources_for(suite) or sources.default_entries(suite)
        )
        key = hashlib.sha256(f"{text}\0{architecture}".encode()).hexdigest()[:16]
        return cls(
            suite=suite,
            architecture=architecture,
            sources=text,
            folder=cache / f"{suite}-{key}",
            offline=offline,
            is_local=sources.is_local(text),
            options=sources.apt_options(),
            logins=logins,
        )

    # what is wanted

    async def resolve(self, status: bytes, names: Sequence[str], *, note: Note) -> list[Deb]:
        """Find what a file system lacks to have these packages, without recommended ones.

        What it has already stays as it is, unless another version is asked for.

        :param status: text of its ``/var/lib/dpkg/status``.
        :param names: as apt takes them: ``name``, ``name=version``, ``name:architecture``.
        :raises BuildError: there is no such package; it conflicts; offline, lists are missing.
        """
        wanted = self._missing(status, names)
        if not wanted:
            return []
        return await self._resolve(status, ["install", "--", *wanted], wanted, note)

    async def fetch(self, debs: Sequence[Deb], *, note: Note) -> list[Path]:
        """Have the files of packages, in the same order.

        :raises Superseded: a version that was found is no longer there.
        :raises BuildError: something could not be fetched; offline, something is missing.
        """
        await asyncio.to_thread(self._prepare)
        if self._lacking(debs):
            waiting = functools.partial(note, "packages are being downloaded by another process")
            async with flocked(self.folder / "archives.lock", waiting=waiting):
                lacking = self._lacking(debs)
                if lacking and self.offline and not self.is_local:
                    raise BuildError(self._not_here(lacking))
                if lacking:
                    await self._download(lacking, note)
        paths = [self._archives / deb.file_name for deb in debs]
        for path in paths:
            with contextlib.suppress(OSError):  # somebody else's: it is read all the same
                os.utime(path)
        return paths

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
        where = f"?or(?archive(^{self.suite}$),?codename(^{self.suite}$)),"
        where += f"?architecture({self.architecture})"
        first = ["dist-upgrade"]
        if variant != "apt":
            first = ["install", "--", f"?narrow({where},?essential)"]
        debs = await self._resolve(b"", first, [], note)
        if not debs:
            raise BuildError(
                f"Debian {self.suite} ({self.architecture}): the archive has no essential packages"
                f"; try: another suite, or another mirror, than\n{_indented(self.sources)}"
            )
        more = [*names, *(["build-essential"] if variant == "buildd" else [])]
        priorities = _PRIORITIES.get(variant, ())
        if priorities:
            chosen = ",".join(f"?priority({one})" for one in priorities)
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
    async def lists(self, names: Sequence[str] = ()) -> AsyncIterator[list[Path]]:
        """Files of the package lists, which stay as they are meanwhile."""
        index = self._index(b"", names)
        async with flocked(index / "lock", shared=True):
            yield [path for path in (index / "lists").iterdir() if path.is_file()]

    def architectures(self, names: Iterable[str], status: bytes = b"") -> list[str]:
        """All architectures that are in question, the native one first."""
        asked = (name.partition("=")[0].partition(":")[2] for name in names)
        there = re.findall(rb"^Architecture: *(\S+)", status, re.MULTILINE)
        found = {*asked, *(one.decode(errors="replace") for one in there)}
        return [self.architecture, *sorted(found - {self.architecture, "", "all", "any", "native"})]

    # inside

    @property
    def _archives(self) -> Path:
        return self.folder / "archives"

    def _index(self, status: bytes, names: Iterable[str]) -> Path:
        return self.folder / "+".join(self.architectures(names, status))

    def _missing(self, status: bytes, names: Sequence[str]) -> list[str]:
        """Those that are not installed, or not in the version that is asked for."""
        there: dict[str, set[str]] = {}
        for row in _paragraphs(status.decode(errors="replace")):
            if row.get("status", "").endswith(" ok installed"):
                version, architecture = row.get("version", ""), row.get("architecture", "")
                keys = [f"{row['package']}:{architecture}"]
                if architecture in (self.architecture, "all"):
                    keys += [row["package"], f"{row['package']}:{self.architecture}"]
                for key in keys:
                    there.setdefault(key, set()).add(version)
        missing = []
        for one in dict.fromkeys(names):
            name, _, version = one.partition("=")
            if name not in there or (version and version not in there[name]):
                missing.append(one)
        return missing

    async def _again(
        self, resolve: Callable[[], Coroutine[Any, Any, list[Deb]]], note: Note
    ) -> tuple[list[Deb], list[Path]]:
        debs = await resolve()
        try:
            return debs, await self.fetch(debs, note=note)
        except Superseded:
            debs = await resolve()
            return debs, await self.fetch(debs, note=note)

    async def _resolve(
        self, status: bytes, command: Sequence[str], asked: Sequence[str], note: Note
    ) -> list[Deb]:
        index = await self._fresh(status, asked, note)
        async with flocked(index / "lock", shared=True):
            # apt wants a path to it, that of a descriptor will not do
            with tempfile.NamedTemporaryFile(dir=index, prefix="status-") as file:
                file.write(status)
                file.flush()
                given = ["-o", f"Dir::State::status={file.name}"]
                argv = ["apt-get", *_INSTALL, "--print-uris", *given, *command]
                done = await self._apt(index, argv)
            if done.status:
                raise BuildError(await self._refused(index, asked, done))
        return [
            _deb(found)
            for line in done.output.decode(errors="replace").splitlines()
            if (found := _URI.match(line)) is not None
        ]

    async def _status_of(self, debs: Sequence[Deb]) -> bytes:
        """A dpkg ``status`` as if just these were installed."""
        index = self._index(b"", ())
        async with flocked(index / "lock", shared=True):
            done = await self._apt(
                index, ["apt-cache", "show", "--", *(deb.request for deb in debs)]
            )
        text = done.output.decode(errors="replace")
        return re.sub(r"(?m)^(Package: .*)$", r"\1\nStatus: install ok installed", text).encode()

    async def _refused(self, index: Path, asked: Sequence[str], done: Done) -> str:
        """Why apt would not: who, what was tried, what was seen, what to do."""
        lines = [line for line in done.lines if not line.startswith("W: ")]
        text = "\n".join(lines)
        found: list[str] = []
        for one in dict.fromkeys(match["name"] for match in map(_NOT_THERE.match, lines) if match):
            similar = await self._similar(index, one)
            hint = f"; similar ones that it has: {', '.join(similar)}" if similar else ""
            found.append(f"no package {one!r}{hint}; try: a package other than {one!r}")
        for match in filter(None, map(_NO_VERSION.match, lines)):
            versions = await self._versions(index, match["name"])
            hint = f"it has {', '.join(versions)}" if versions else "and no other"
            found.append(
                f"no version {match['version']!r} of {match['name']!r}; {hint}; "
                f"try: one that it has, or mirror= with an archive of that day"
            )
        who = f"packages of Debian {self.suite} ({self.architecture})"
        if found:
            return f"{who}: " + "; and ".join(found)
        said = "\n".join(f"  {line}" for line in lines)
        wanted = f" {', '.join(asked)}" if asked else ""
        remedy = "packages that do not conflict, one by one"
        if "unmet dependencies" not in text and "conflict" not in text.lower():
            remedy = f"remove {self.folder}, then again"
        return f"{who}: apt-get cannot install{wanted}; the last lines:\n{said}\ntry: {remedy}"

    async def _similar(self, index: Path, name: str) -> list[str]:
        plain = name.partition(":")[0].partition("=")[0]
        done = await self._apt(index, ["apt-cache", "pkgnames", plain[:2]])
        names = done.output.decode(errors="replace").split()
        close = difflib.get_close_matches(plain, names, n=3, cutoff=0.7)
        return close or sorted(one for one in names if one.startswith(plain))[:3]

    async def _versions(self, index: Path, name: str) -> list[str]:
        done = await self._apt(index, ["apt-cache", "madison", "--", name])
        rows = [line.split("|") for line in done.output.decode(errors="replace").splitlines()]
        return list(dict.fromkeys(row[1].strip() for row in rows if len(row) > 1))[:5]

    async def _fresh(
        self, status: bytes, names: Sequence[str], note: Note, *, since: float = 0.0
    ) -> Path:
        """Have package lists.

        :param since: the time after which they must have been fetched.
        """
        index = self._index(status, names)
        await asyncio.to_thread(self._prepare, index)
        if self._is_fresh(index, since):
            return index
        waiting = functools.partial(note, "package lists are being updated by another process")
        async with flocked(index / "lock", waiting=waiting):
            if not self._is_fresh(index, since):
                await self._update(index, note)
        return index

    def _is_fresh(self, index: Path, since: float) -> bool:
        try:
            updated_at = (index / "updated").stat().st_mtime
        except FileNotFoundError:
            if self.offline and not self.is_local:
                raise BuildError(
                    f"packages of Debian {self.suite} ({self.architecture}): offline, and there "
                    f"are no package lists of it; what was missing:\n{_indented(self.sources)}\n"
                    "try: once with a network, or pytest-carthage unbundle"
                ) from None
            return False
        if self.offline:
            return True
        return updated_at >= max(since, time.time() - _FRESH_S)

    async def _update(self, index: Path, note: Note) -> None:
        note(f"updating package lists of Debian {self.suite}")
        await asyncio.to_thread(_forget_status, index)
        done = await self._apt(index, ["apt-get", "-q", "update"])
        stamp = index / "updated"
        if done.status == 0:
            stamp.touch()
        elif stamp.exists():
            seen = next((line for line in done.lines if line.startswith("E: ")), "no reason told")
            note(f"package lists could not be updated, older ones are used ({seen[3:]})")
        else:
            raise BuildError(self._not_updated(done))

    def _not_updated(self, done: Done) -> str:
        said = (
            f"package lists of Debian {self.suite} ({self.architecture}): apt-get update ended "
            f"with status {done.status}; the last lines:\n{done.text}\n"
        )
        if re.search(
            r"does not have a Release file|404 +Not Found|File not found|Failed to stat", done.text
        ):
            return (
                f"{said}try: another suite; the mirrors have no {self.suite!r} (or are old); "
                f"these were asked:\n{_indented(self.sources)}"
            )
        if (full := lack_of_space(done.text, self.folder)) is not None:
            return f"{said}{full}"
        if "NO_PUBKEY" in done.text or "not signed" in done.text:
            return f"{said}try: a newer debian-archive-keyring, which has the keys of new suites"
        return f"{said}try: apt-get update on this host, whose mirrors are used"

    async def _download(self, debs: Sequence[Deb], note: Note) -> None:
        done = await self._download_once(debs, note)
        if done.status and _GONE.search("\n".join(done.lines)):
            now = time.time()
            await self._fresh(b"", [deb.request for deb in debs], note, since=now)
            done = await self._download_once(self._lacking(debs), note)
            gone = [deb.request for deb in self._lacking(debs)]
            if done.status and _GONE.search("\n".join(done.lines)):
                raise Superseded(
                    f"packages of Debian {self.suite} ({self.architecture}): no longer to be had: "
                    f"{', '.join(gone)}; the last lines:\n{done.text}\n"
                    "try: again, with what the archive has now"
                )
        if done.status:
            said = (
                f"packages of Debian {self.suite} ({self.architecture}): the download ended with "
                f"status {done.status}; the last lines:\n{done.text}\n"
            )
            full = lack_of_space(done.text, self.folder)
            raise BuildError(
                said + (full or "try: apt-get update on this host, whose mirrors are used")
            )

    async def _download_once(self, debs: Sequence[Deb], note: Note) -> Done:
        index = self._index(b"", [deb.request for deb in debs])
        # removed by whoever holds the lock next, if this is killed
        for left in self._archives.glob("new-*"):
            shutil.rmtree(left, ignore_errors=True)
        new = self._archives / f"new-{secrets.token_hex(4)}"
        new.mkdir(mode=0o755)
        if os.geteuid() == 0:
            with contextlib.suppress(LookupError, OSError):
                shutil.chown(new, "_apt")  # who apt is while it downloads
        seen = 0

        def tell(line: str) -> None:
            nonlocal seen
            if line.startswith("Get:"):
                seen += 1
                if match := re.search(r" (\S+) \S+ \S+ \[", line):
                    note(f"downloading {match[1]} ({seen} of {len(debs)})")

        try:
            done = await self._apt(
                index,
                ["apt-get", "-q", "download", "--", *(deb.request for deb in debs)],
                tell=tell,
                cwd=new,
            )
            by_name = {_plain(deb.file_name): deb for deb in debs}
            for path in new.glob("*.deb"):
                deb = by_name.get(_plain(path.name))
                # a file of a mirror on this host is linked to
                if deb is not None and path.stat().st_size == deb.size:
                    ready = self._archives / f"{deb.file_name}.new"
                    shutil.copyfile(path, ready) if path.is_symlink() else path.rename(ready)
                    ready.chmod(0o644)
                    ready.rename(self._archives / deb.file_name)
            return done
        finally:
            shutil.rmtree(new, ignore_errors=True)

    def _lacking(self, debs: Sequence[Deb]) -> list[Deb]:
        def is_here(deb: Deb) -> bool:
            try:
                return (self._archives / deb.file_name).stat().st_size == deb.size
            except OSError:
                return False

        return [deb for deb in debs if not is_here(deb)]

    def _not_here(self, lacking: Sequence[Deb]) -> str:
        names = ", ".join(deb.request for deb in lacking[:10])
        more = f" and {len(lacking) - 10} more" if len(lacking) > 10 else ""
        return (
            f"packages of Debian {self.suite} ({self.architecture}): offline, and not in the "
            f"cache: {names}{more}; try: once with a network, or pytest-carthage unbundle"
        )

    # apt itself

    def _prepare(self, index: Path | None = None) -> None:
        """Make the folders and the configuration."""
        try:
            for folder in (
                self._archives,
                self.folder / "sources",
                self.folder / "etc" / "preferences.d",
                self.folder / "logins",
                *(() if index is None else (index / "lists" / "partial", index / "none")),
            ):
                folder.mkdir(parents=True, exist_ok=True)
            # so that apt's own user gets to what apt hands over to it
            for folder in (self.folder.parent, self.folder):
                if folder.stat().st_uid == os.geteuid():
                    folder.chmod(folder.stat().st_mode | 0o011)
            _write(self.folder / "sources" / "carthage.sources", self.sources)
            _write(self.folder / "logins" / "carthage.conf", self.logins, mode=0o600)
            for path in sources.login_files():
                link = self.folder / "logins" / path.name
                with contextlib.suppress(FileExistsError):
                    link.symlink_to(path)
            if index is not None:
                _write(index / "apt.conf", self._configuration(index), mode=0o600)
        except OSError as error:
            raise BuildError(
                f"packages are kept in {self.folder}: {error}; "
                "try: set CARTHAGE_IMAGES to a folder of your own"
            ) from error

    def _configuration(self, index: Path) -> str:
        architectures = " ".join(f'"{one}";' for one in index.name.split("+"))
        return f"""\
{self.options}
Dir::State "{index}";
Dir::State::lists "{index}/lists";
Dir::State::status "/dev/null";
Dir::State::extended_states "/dev/null";
Dir::Cache "{index}";
Dir::Cache::archives "{index}/none";
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "{index}/srcpkgcache.bin";
Dir::Etc::main "/dev/null";
Dir::Etc::parts "/dev/null";
Dir::Etc::sourcelist "/dev/null";
Dir::Etc::sourceparts "{self.folder}/sources";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "{self.folder}/etc/preferences.d";
Dir::Etc::netrcparts "{self.folder}/logins";
Dir::Log "/dev/null";
APT::Architecture "{self.architecture}";
APT::Architectures {{ {architectures} }};
APT::Update::Error-Mode "any";
Acquire::ForceHash "sha256";
Acquire::Languages "none";
Debug::NoLocking "true";
"""

    async def _apt(
        self,
        index: Path,
        argv: Sequence[str],
        *,
        tell: Callable[[str], object] = lambda line: None,
        cwd: Path | None = None,
    ) -> Done:
        alone = []
        if self.offline:  # apt starts a method to ask what it can, even if nothing is fetched
            alone = ["unshare", "--net", *([] if os.geteuid() == 0 else ["--map-current-user"])]
        lines: list[str] = []

        def each(line: str) -> None:
            lines.append(line)
            tell(line)

        done = await run(
            [*alone, *argv],
            environment={
                "APT_CONFIG": str(index / "apt.conf"),
                "DEBIAN_FRONTEND": "noninteractive",
            },
            tell=each,
            cwd=cwd,
        )
        return Done(
            status=done.status,
            output="\n".join(lines).encode(),
            lines=tuple(line for line in done.lines if not _is_chatter(line)),
        )


_CHATTER = ("Get:", "Hit:", "Ign:", "Fetched ", "Reading ", "Building ", "W: ", "N: ")

#: priorities that a variant has beside what is essential, see mmdebstrap(1)
_PRIORITIES = {
    "minbase": ("required",),
    "required": ("required",),
    "buildd": ("required",),
    "-": ("required", "important"),
    "important": ("required", "important"),
    "standard": ("required", "important", "standard"),
}


async def simulate_base(image: Image, cache: Path) -> dict[str, str]:
    """Name to version of what a Debian image's base would have if it were made now.

    :raises BuildError: as :meth:`Apt.resolve`.
    """
    architecture = native_architecture()
    apt = await asyncio.to_thread(
        Apt.of, suite=image.suite, architecture=architecture, mirror=image.mirror, cache=cache
    )
    debs = await apt.resolve_base(image.variant, image.packages, note=lambda text: None)
    return {
        deb.name
        if deb.architecture in ("all", architecture)
        else f"{deb.name}:{deb.architecture}": deb.version
        for deb in debs
    }


def lack_of_space(text: str, *folders: Path) -> str | None:
    """What to tell where a program ran out of space; None: it did not."""
    if not re.search(r"No space left on device|not enough free space|don't have enough", text):
        return None
    places = dict.fromkeys(path for path in (*folders, Path("/var/tmp")) if path.exists())
    free = (f"{path} has {shutil.disk_usage(path).free // 2**20} MiB free" for path in places)
    return f"no space left: {', '.join(free)}; try: pytest-carthage images gc"


def _deb(found: re.Match[str]) -> Deb:
    name, version, architecture = found["file"].removesuffix(".deb").split("_")
    return Deb(
        name=name,
        version=unquote(version),
        architecture=architecture,
        url=found["url"],
        size=int(found["size"]),
        sha256=found["hash"],
    )


def _forget_status(index: Path) -> None:
    """Remove what those left who were killed; nobody else has the lock."""
    for left in index.glob("status-*"):
        left.unlink(missing_ok=True)


def _plain(file_name: str) -> str:
    return unquote(file_name)


def _is_chatter(line: str) -> bool:
    return line.startswith(_CHATTER)


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines() if line)


def _write(path: Path, text: str, *, mode: int = 0o644) -> None:
    """Write a file that differs; others see it whole or not at all."""
    with contextlib.suppress(OSError):
        if path.read_text() == text:
            return
    new = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    new.touch(mode=mode)
    new.write_text(text)
    new.replace(path)
