"""Fetching a file from an address."""

from __future__ import annotations

import asyncio
import hashlib
import shutil
import threading
import urllib.request
from http.client import HTTPException
from typing import TYPE_CHECKING
from urllib.error import HTTPError

from pytest_carthage.errors import BuildError
from pytest_carthage.work import space

if TYPE_CHECKING:
    from collections.abc import Callable
    from http.client import HTTPResponse
    from pathlib import Path

__all__ = ["fetch"]

#: in which a server has to say something
_SILENCE_S = 60.0
_PIECE = 1 << 20
_TELL_EVERY = 64 << 20


async def fetch(address: str, path: Path, *, who: str, note: Callable[[str], None]) -> str:
    """Write what an address of http or https leads to into a file; returns its SHA-256.

    Proxies are those of the environment. If it is cancelled, it ends with the piece that it is at.

    :param who: begins messages.
    :raises BuildError: it does not come, or not whole, or there is no room for it.
    """
    loop = asyncio.get_running_loop()
    cancelled = threading.Event()

    def tell(text: str) -> None:
        loop.call_soon_threadsafe(note, text)

    work = asyncio.ensure_future(asyncio.to_thread(_fetch, address, path, tell, cancelled))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        cancelled.set()
        await asyncio.wait([work])
        raise
    except (OSError, ValueError, HTTPException) as error:
        if isinstance(error, HTTPError):
            error.close()  # it is the answer, too
        said = f"{who}: it could not be fetched: {error}"
        full = space.advice(str(error), path.parent)
        raise BuildError(f"{said}; {full or 'try: curl -fLO ' + address}") from error


def _fetch(
    address: str, path: Path, tell: Callable[[str], None], cancelled: threading.Event
) -> str:
    digest = hashlib.sha256()
    answer: HTTPResponse
    with urllib.request.urlopen(address, timeout=_SILENCE_S) as answer, path.open("wb") as file:
        whole = int(answer.headers.get("Content-Length") or 0)
        if whole > (free := shutil.disk_usage(path.parent).free):
            raise OSError(f"it has {whole >> 20} MiB, and {free >> 20} MiB are free")
        tell(f"fetching {whole >> 20} MiB" if whole else "fetching")
        size = 0
        while not cancelled.is_set() and (piece := answer.read(_PIECE)):
            file.write(piece)
            digest.update(piece)
            size += len(piece)
            if whole and size % _TELL_EVERY < _PIECE:
                tell(f"fetching: {size >> 20} of {whole >> 20} MiB")
        if size < whole:
            raise OSError(f"it ended after {size} of {whole} bytes")
    return digest.hexdigest()
