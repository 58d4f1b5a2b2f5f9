"""What is fetched from the web as this host reaches it: proxies and certificates of its own."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import secrets
import shutil
import urllib.error
import urllib.request
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from pytest_carthage.errors import CarthageError

__all__ = ["Unavailable", "Web"]

_SILENCE_S = 60.0


class Unavailable(CarthageError):
    """A page could not be had; the message says why, on one line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Web:
    """Fetches pages and files, each once at a time, and keeps them."""

    folder: Path
    offline: bool = False
    _turns: dict[Path, asyncio.Lock] = field(default_factory=lambda: defaultdict(asyncio.Lock))

    async def get(self, url: str, *, accept: str = "*/*", lasting: bool = False) -> Path | None:
        """Fetch a page; None: there is none.

        :param lasting: what is called so never changes.
        :raises Unavailable: nobody answers, and it was not kept; offline, it was not kept.
        """
        target = self.folder / hashlib.sha256(f"{url} {accept}".encode()).hexdigest()[:40]
        async with self._turns[target]:
            is_kept = await asyncio.to_thread(target.exists)
            if is_kept and (lasting or self.offline):
                return target
            if self.offline:
                raise Unavailable(f"offline, and not in this host's cache: {url}")
            try:
                return await asyncio.to_thread(_download, url, target, accept)
            except OSError as error:
                if is_kept:  # what was kept before is better than nothing
                    return target
                reason = getattr(error, "reason", error)
                raise Unavailable(f"{url} could not be fetched by this host: {reason}") from error


def _download(url: str, target: Path, accept: str) -> Path | None:
    target.parent.mkdir(parents=True, exist_ok=True)
    new = target.with_name(f"new-{secrets.token_hex(6)}")
    request = urllib.request.Request(url, headers={"Accept": accept, "User-Agent": "carthage"})
    try:
        with urllib.request.urlopen(request, timeout=_SILENCE_S) as page, new.open("wb") as file:
            shutil.copyfileobj(page, file)
        new.replace(target)
    except urllib.error.HTTPError as error:
        if error.code in (404, 410):
            return None
        raise
    finally:
        with contextlib.suppress(FileNotFoundError):
            new.unlink()
    return target
