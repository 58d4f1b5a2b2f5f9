"""One package in one version, and how apt tells where it is."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import unquote

from pytest_carthage.handles.lines import lines_of

__all__ = ["Deb", "printed_debs", "versions_of"]

#: a line of ``apt-get --print-uris``
_URI = re.compile(r"'(?P<url>[^']+)' (?P<file>\S+_\S+_\S+\.deb) (?P<size>\d+) SHA256:(?P<hash>\w+)")


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


def printed_debs(output: str) -> Iterator[Deb]:
    """The packages that ``apt-get --print-uris`` has printed."""
    for line in lines_of(output):
        match = _URI.match(line)
        if match is None:
            continue
        name, version, architecture = match["file"].removesuffix(".deb").split("_")
        yield Deb(
            name=name,
            version=unquote(version),
            architecture=architecture,
            url=match["url"],
            size=int(match["size"]),
            sha256=match["hash"],
        )


def versions_of(debs: Sequence[Deb], native: str) -> Mapping[str, str]:
    """Name to version, as a file system tells of them that has them installed.

    :param native: its architecture; packages of others are called ``name:architecture``.
    """
    return {
        deb.name if deb.architecture in ("all", native) else f"{deb.name}:{deb.architecture}": (
            deb.version
        )
        for deb in debs
    }
