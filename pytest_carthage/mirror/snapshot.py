"""The lists of one suite as they were when a machine asked for them: its apt wants them to fit."""

from __future__ import annotations

import contextlib
import mmap
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote

from pytest_carthage.work.debian.deb import Deb

__all__ = ["Listed", "Snapshot"]

_LINE = re.compile(rb"(?m)^ ([0-9a-f]{64}) +(\d+) (\S+)$")
_RELEASES = ("InRelease", "Release", "Release.gpg")


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """A file of lists, held open: it is the same when apt has replaced it."""

    fd: int
    changed_at: float

    @classmethod
    def of(cls, path: Path) -> Listed:
        """Hold a file open.

        :raises OSError: it cannot be read.
        """
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        return cls(fd=fd, changed_at=os.fstat(fd).st_mtime)

    def opened(self) -> BinaryIO:
        """The same file, read from its begin by whoever asks."""
        return Path(f"/proc/self/fd/{self.fd}").open("rb")


class Snapshot:
    """The lists of a suite."""

    def __init__(self, lists: Path, suite: str) -> None:
        #: name below ``dists/suite/`` to file
        self.by_name: dict[str, Listed] = {}
        #: SHA-256 to file
        self.by_hash: dict[str, Listed] = {}
        end = f"_dists_{suite.replace('/', '_')}_"
        files = {path.name: path for path in lists.iterdir() if end in path.name}
        for name in _RELEASES:
            path = next((files[each] for each in files if each.endswith(end + name)), None)
            if path is not None:
                self.by_name[name] = Listed.of(path)
        release = self.by_name.get("InRelease") or self.by_name.get("Release")
        if release is None:
            return
        with release.opened() as file:
            text = file.read()
        hashes = {name.decode(): digest.decode() for digest, _, name in _LINE.findall(text)}
        for path in files.values():
            name = path.name.partition(end)[2]
            for full, digest in hashes.items():
                if full.replace("/", "_") == name and full not in self.by_name:
                    self.by_name[full] = self.by_hash[digest] = Listed.of(path)

    def close(self) -> None:
        """Let go of its files."""
        for listed in self.by_name.values():
            os.close(listed.fd)
        self.by_name.clear()
        self.by_hash.clear()

    def find(self, path: str) -> Deb | None:
        """The package whose file is called so below the archive's address."""
        for name, listed in self.by_name.items():
            if name.endswith("/Packages"):
                for deb in _paragraphs(listed, path):
                    return deb
        return None


def _paragraphs(listed: Listed, path: str) -> Iterator[Deb]:
    wanted = f"\nFilename: {path}\n".encode()
    with contextlib.suppress(ValueError):  # an empty file
        with mmap.mmap(listed.fd, 0, access=mmap.ACCESS_READ) as text:
            at = text.find(wanted)
            if at < 0:
                return
            begin, end = text.rfind(b"\n\n", 0, at), text.find(b"\n\n", at)
            block = text[max(begin, 0) : end if end >= 0 else len(text)].decode(errors="replace")
        fields = dict(re.findall(r"(?m)^([A-Za-z0-9-]+): (.*)$", block))
        yield Deb(
            name=fields["Package"],
            version=fields["Version"],
            architecture=fields["Architecture"],
            url=unquote(path),
            size=int(fields["Size"]),
            sha256=fields.get("SHA256", ""),
        )
