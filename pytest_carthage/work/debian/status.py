"""What a file system says of its packages: dpkg's ``status``, and the release that it is of."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterable, Iterator, Mapping

from pytest_carthage.handles.lines import lines_of

__all__ = [
    "STATUS",
    "architecture_of",
    "as_installed",
    "digest",
    "foreign",
    "installed",
    "lacking",
    "suite_of",
]

#: where it is in a file system
STATUS = "var/lib/dpkg/status"

#: fields of a paragraph that fit on a line, by their names in lower case
Paragraph = Mapping[str, str]


def _paragraphs(status: str) -> Iterator[Paragraph]:
    for block in status.split("\n\n"):
        row: dict[str, str] = {}
        for line in lines_of(block):
            name, colon, value = line.partition(":")
            if colon and not line[0].isspace():
                row[name.lower()] = value.strip()
        if "package" in row:
            yield row


def _installed(status: bytes) -> Iterator[Paragraph]:
    for row in _paragraphs(status.decode(errors="replace")):
        if row.get("status", "").endswith(" installed"):
            yield row


def installed(status: bytes) -> dict[str, str]:
    """Name to version of what is installed.

    A package of an architecture that the others are not of is called ``name:architecture``.
    """
    rows = [
        (row["package"], row.get("version", ""), row.get("architecture", ""))
        for row in _installed(status)
    ]
    architectures = [architecture for _, _, architecture in rows if architecture != "all"]
    native = max(set(architectures), key=architectures.count, default="")
    return {
        name if architecture in ("all", native) else f"{name}:{architecture}": version
        for name, version, architecture in rows
    }


def lacking(status: bytes, names: Iterable[str], native: str) -> list[str]:
    """Those that are not installed, or not in the version that is asked for.

    :param names: as apt takes them: ``name``, ``name=version``, ``name:architecture``.
    :param native: the architecture of names without one.
    """
    there: dict[str, set[str]] = {}
    for row in _installed(status):
        if not row["status"].endswith(" ok installed"):
            continue
        version, architecture = row.get("version", ""), row.get("architecture", "")
        keys = [f"{row['package']}:{architecture}"]
        if architecture in (native, "all"):
            keys += [row["package"], f"{row['package']}:{native}"]
        for key in keys:
            there.setdefault(key, set()).add(version)
    missing = []
    for request in dict.fromkeys(names):
        name, _, version = request.partition("=")
        if name not in there or (version and version not in there[name]):
            missing.append(request)
    return missing


def foreign(status: bytes, names: Iterable[str], native: str) -> Collection[str]:
    """Architectures but the native one that packages are of, or are asked for in."""
    asked = (name.partition("=")[0].partition(":")[2] for name in names)
    there = re.findall(rb"^Architecture: *(\S+)", status, re.MULTILINE)
    every = {*asked, *(name.decode(errors="replace") for name in there)}
    return every - {native, "", "all", "any", "native"}


def architecture_of(status: bytes) -> str:
    """The architecture that a file system is of: that of its dpkg."""
    match = re.search(rb"^Package: dpkg\n(?:.+\n)*?Architecture: (.+)$", status, re.MULTILINE)
    return match[1].decode() if match else "amd64"


def as_installed(shown: str) -> bytes:
    """A status as if just those packages were installed that ``apt-cache show`` has printed."""
    return re.sub(r"(?m)^(Package: .*)$", r"\1\nStatus: install ok installed", shown).encode()


def digest(status: bytes) -> str:
    """Digest of the packages that are installed, by name, version and architecture."""
    rows = sorted(
        f"{row['package']}={row.get('version')}:{row.get('architecture')}\n"
        for row in _installed(status)
    )
    return f"sha256:{hashlib.sha256(''.join(rows).encode()).hexdigest()}"


def suite_of(release: str) -> str:
    """The suite of Debian that an ``os-release`` names; empty: none. See os-release(5)."""
    fields = dict(line.split("=", 1) for line in lines_of(release) if "=" in line)
    suite = fields.get("VERSION_CODENAME", "").strip().strip("\"'")
    if suite:
        return suite
    return "sid" if fields.get("ID", "").strip().strip("\"'") == "debian" else ""
