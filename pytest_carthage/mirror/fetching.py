"""What is fetched from outside as the host's own apt would, and kept."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import re
import secrets
import shutil
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from pytest_carthage.errors import CarthageError
from pytest_carthage.work.debian.cache import Cache

__all__ = ["Fetching", "Unreachable"]

_HELPER = "/usr/lib/apt/apt-helper"
_GONE = re.compile(r"\b404\b|File not found|Failed to stat|was not found")


class Unreachable(CarthageError):
    """What is outside could not be had; the message says why, on one line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetching:
    """Fetches files, each once at a time."""

    #: where they are kept
    folder: Path
    offline: bool = False
    _turns: dict[Path, asyncio.Lock] = field(default_factory=lambda: defaultdict(asyncio.Lock))

    async def fetch(self, url: str, by: Cache, *, lasting: bool = False) -> Path | None:
        """Fetch a file, and keep it; None: there is none.

        :param by: how the host reaches it.
        :param lasting: what is called so never changes.
        :raises Unreachable: it could not be asked for; offline, it was not kept.
        """
        target = self.folder / hashlib.sha256(url.encode()).hexdigest()[:40]
        if self.offline or lasting:
            return await self.fetch_to(url, target, by)
        async with self._turns[target]:
            try:
                return target if await self._download(url, target, by) else None
            except Unreachable:  # what was kept before is better than nothing
                if _size(target) is None:
                    raise
                return target

    async def fetch_to(self, url: str, target: Path, by: Cache, *, size: int = -1) -> Path | None:
        """Fetch a file to a place of its own where it is not there; None: there is none.

        :param size: its bytes, where they are known; what is there with others is not it.
        :raises Unreachable: as :meth:`fetch`.
        """
        async with self._turns[target]:
            if (here := _size(target)) is not None and size in (-1, here):
                with contextlib.suppress(OSError):  # somebody else's: it is read all the same
                    os.utime(target)
                return target
            if self.offline and not by.archive.is_local:
                raise Unreachable(f"offline, and not in this host's cache: {url}")
            return target if await self._download(url, target, by) else None

    async def _download(self, url: str, target: Path, by: Cache) -> bool:
        """Have apt download it; False: there is no such file."""
        target.parent.mkdir(parents=True, exist_ok=True)
        index = by.index(())
        await asyncio.to_thread(by.prepare, index)
        new = target.parent / f"mirror-{secrets.token_hex(6)}"
        new.mkdir(mode=0o755)
        if os.geteuid() == 0:
            with contextlib.suppress(LookupError, OSError):
                shutil.chown(new, "_apt")  # who apt is while it downloads
        try:
            file = new / "file"
            ended = await by.apt(index, [_HELPER, "download-file", url, str(file)])
            if ended.status:
                text = "\n".join(ended.lines)
                if _GONE.search(text):
                    return False
                last = next((line for line in ended.lines if line.startswith("E: ")), text[-200:])
                raise Unreachable(f"{url} could not be fetched by this host: {last}")
            if file.is_symlink():  # of a folder of this host
                shutil.copyfile(file, new / "copy")
                file = new / "copy"
            file.chmod(0o644)
            file.replace(target)
            return True
        finally:
            shutil.rmtree(new, ignore_errors=True)


def _size(path: Path) -> int | None:
    """Bytes of a file; None: there is none."""
    with contextlib.suppress(FileNotFoundError):
        return path.stat().st_size
    return None
