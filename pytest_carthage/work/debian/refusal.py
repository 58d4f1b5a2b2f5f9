"""Why apt would not install packages: what it printed, and what the archive has instead."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from pathlib import Path

from pytest_carthage.fabric.host.execution import Ended
from pytest_carthage.work.debian.cache import Cache

__all__ = ["refusal"]

_NOT_THERE = re.compile(
    r"E: (?:Unable to locate package |Package ')(?P<name>[^\s']+)"
    r"(?:$|' has no installation candidate)"
)
_NO_VERSION = re.compile(r"E: Version '(?P<version>[^']+)' for '(?P<name>[^']+)' was not found")


async def refusal(cache: Cache, index: Path, asked: Sequence[str], ended: Ended) -> str:
    """Why apt would not: who, what was tried, what was seen, what to do.

    :param asked: names of packages that were asked for.
    """
    lines = [line for line in ended.lines if not line.startswith("W: ")]
    causes: list[str] = []
    for name in dict.fromkeys(match["name"] for match in map(_NOT_THERE.match, lines) if match):
        similar = await _similar(cache, index, name)
        hint = f"; similar ones that it has: {', '.join(similar)}" if similar else ""
        causes.append(f"no package {name!r}{hint}; try: a package other than {name!r}")
    for match in filter(None, map(_NO_VERSION.match, lines)):
        versions = await _versions(cache, index, match["name"])
        hint = f"it has {', '.join(versions)}" if versions else "and no other"
        causes.append(
            f"no version {match['version']!r} of {match['name']!r}; {hint}; "
            f"try: one that it has, or mirror= with an archive of that day"
        )
    begin = f"packages of {cache.archive}"
    if causes:
        return f"{begin}: " + "; and ".join(causes)
    text = "\n".join(lines)
    printed = "\n".join(f"  {line}" for line in lines)
    wanted = f" {', '.join(asked)}" if asked else ""
    remedy = "packages that do not conflict, one by one"
    if "unmet dependencies" not in text and "conflict" not in text.lower():
        remedy = f"remove {cache.folder}, then again"
    return f"{begin}: apt-get cannot install{wanted}; the last lines:\n{printed}\ntry: {remedy}"


async def _similar(cache: Cache, index: Path, name: str) -> list[str]:
    plain = name.partition(":")[0].partition("=")[0]
    ended = await cache.apt(index, ["apt-cache", "pkgnames", plain[:2]])
    names = ended.output.decode(errors="replace").split()
    close = difflib.get_close_matches(plain, names, n=3, cutoff=0.7)
    return close or sorted(other for other in names if other.startswith(plain))[:3]


async def _versions(cache: Cache, index: Path, name: str) -> list[str]:
    ended = await cache.apt(index, ["apt-cache", "madison", "--", name])
    rows = [line.split("|") for line in ended.output.decode(errors="replace").splitlines()]
    return list(dict.fromkeys(row[1].strip() for row in rows if len(row) > 1))[:5]
