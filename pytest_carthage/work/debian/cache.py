"""A folder of one archive, in which apt runs: its configuration, lists and downloads.

Whatever the host itself has: its own state is neither used nor touched. Processes that ask for the
same at once share it by claims, and not by apt's own locks.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pytest_carthage.errors import BuildError
from pytest_carthage.fabric.host.execution import Ended, run
from pytest_carthage.work.debian import sources
from pytest_carthage.work.debian.archive import Archive
from pytest_carthage.work.debian.status import foreign

__all__ = ["Cache"]

_SIGNED_BY = re.compile(r"(?m)^Signed-By: (?P<path>/\S+)$")
_CHATTER = ("Get:", "Hit:", "Ign:", "Fetched ", "Reading ", "Building ", "W: ", "N: ")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cache:
    """The folder of an archive."""

    archive: Archive
    folder: Path
    #: nothing is fetched; what is missing is named
    offline: bool = False

    @property
    def downloads(self) -> Path:
        """Where packages are, once they were downloaded."""
        return self.folder / "archives"

    @property
    def must_be_here(self) -> bool:
        """Whether what is not in the folder cannot be had."""
        return self.offline and not self.archive.is_local

    def architectures(self, names: Iterable[str], status: bytes = b"") -> list[str]:
        """All architectures that are in question, the native one first."""
        native = self.archive.architecture
        return [native, *sorted(foreign(status, names, native))]

    def index(self, names: Iterable[str], status: bytes = b"") -> Path:
        """The folder with package lists of all architectures that are in question."""
        return self.folder / "+".join(self.architectures(names, status))

    def prepare(self, index: Path | None = None) -> None:
        """Make the folders and the configuration.

        :raises BuildError: they cannot be made.
        """
        try:
            for folder in (
                self.downloads,
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
            _write(self.folder / "sources" / "carthage.sources", self._sources())
            _write(self.folder / "logins" / "carthage.conf", self.archive.logins, mode=0o600)
            for path in sources.login_files():
                link = self.folder / "logins" / path.name
                with contextlib.suppress(FileExistsError):
                    link.symlink_to(path)
            if index is not None:
                _write(index / "apt.conf", self.configuration(index), mode=0o600)
        except OSError as error:
            raise BuildError(
                f"packages are kept in {self.folder}: {error}; "
                "try: set CARTHAGE_IMAGES to a folder of your own"
            ) from error

    def _sources(self) -> str:
        """Its entries, with copies of keys that are an author's: apt's own user reads them."""

        def copied(match: re.Match[str]) -> str:
            source = Path(match["path"])
            if source.is_relative_to("/usr/share/keyrings") or source.is_relative_to("/etc/apt"):
                return match[0]
            own = self.folder / "keys" / source.name
            own.parent.mkdir(exist_ok=True)
            new = own.with_name(f".{own.name}.{secrets.token_hex(4)}")
            new.write_bytes(source.read_bytes())
            new.chmod(0o644)
            new.replace(own)
            return f"Signed-By: {own}"

        return _SIGNED_BY.sub(copied, self.archive.sources)

    def configuration(self, index: Path) -> str:
        """Text of the apt.conf(5) for an index."""
        architectures = " ".join(f'"{name}";' for name in index.name.split("+"))
        return f"""\
{self.archive.options}
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
APT::Architecture "{self.archive.architecture}";
APT::Architectures {{ {architectures} }};
APT::Update::Error-Mode "any";
Acquire::ForceHash "sha256";
Acquire::Languages "none";
Debug::NoLocking "true";
"""

    async def apt(
        self,
        index: Path,
        argv: Sequence[str],
        *,
        tell: Callable[[str], object] = lambda line: None,
        cwd: Path | None = None,
    ) -> Ended:
        """Run a program of apt's; its last lines are those that a message wants."""
        alone = []
        if self.offline:  # apt starts a method to ask what it can, even if nothing is fetched
            alone = ["unshare", "--net", *([] if os.geteuid() == 0 else ["--map-current-user"])]
        lines: list[str] = []

        def each(line: str) -> None:
            lines.append(line)
            tell(line)

        ended = await run(
            [*alone, *argv],
            env={"APT_CONFIG": str(index / "apt.conf"), "DEBIAN_FRONTEND": "noninteractive"},
            tell=each,
            cwd=cwd,
        )
        return Ended(
            status=ended.status,
            output="\n".join(lines).encode(),
            lines=tuple(line for line in ended.lines if not line.startswith(_CHATTER)),
        )


def _write(path: Path, text: str, *, mode: int = 0o644) -> None:
    """Write a file that differs; others see it whole or not at all."""
    with contextlib.suppress(OSError):
        if path.read_text() == text:
            return
    new = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    new.touch(mode=mode)
    new.write_text(text)
    new.replace(path)
