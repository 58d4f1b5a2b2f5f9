"""Packages of Debian that are downloaded and unpacked, and installed nowhere."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from pytest_carthage.errors import BuildError
from pytest_carthage.images.exports.tools import completed

__all__ = ["unpacked"]

#: gives names of packages, as apt knows them with some options
Choose = Callable[[Sequence[str]], Awaitable[Sequence[str]]]


async def unpacked(choose: Choose, work: Path, *, doing: str, advice: str) -> Path:
    """Download packages and unpack them; returns the folder with their files.

    Where the host's lists of packages are missing or old, own ones are fetched.

    :param choose: gives the names, or fails where apt does not know them.
    :param work: a folder to work in.
    :raises BuildError: they could not be fetched.
    """
    folder = work / "unpacked"
    folder.mkdir()
    host = ["-o", f"Dir::Cache={work}/cache", "-o", "APT::Sandbox::User=root"]
    own = [*host, "-o", f"Dir::State={work}/state"]
    try:
        await _download(await choose(host), work, host, doing, "")
    except BuildError:
        # the host's own are not touched
        for name in ("state/lists/partial", "cache/archives/partial"):
            (work / name).mkdir(parents=True, exist_ok=True)
        await completed(["apt-get", "update", *own], doing=doing, advice=lambda said: advice)
        await _download(await choose(own), work, own, doing, advice)
    for path in await asyncio.to_thread(lambda: sorted(work.glob("*.deb"))):
        await completed(["dpkg-deb", "-x", str(path), str(folder)], doing=doing, places=[work])
    return folder


async def _download(
    packages: Sequence[str], work: Path, options: Sequence[str], doing: str, advice: str
) -> None:
    script = 'cd "$1"; shift; exec apt-get "$@"'
    await completed(
        [
            *("sh", "-c", script, "apt-get", str(work)),
            *("download", "--quiet", *options, *packages),
        ],
        program="apt-get download",
        doing=doing,
        places=[work],
        advice=lambda said: advice,
    )
