"""Indexes of Python's and Node's packages, where a layout lets its machines have them."""

from __future__ import annotations

import asyncio
import hashlib
import html
import json
import os
import re
import subprocess
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, urljoin, urlsplit

from pytest_carthage.mirror.message import Answer
from pytest_carthage.mirror.web import Unavailable, Web

if TYPE_CHECKING:
    from pytest_carthage.mirror.message import Request
    from pytest_carthage.mirror.settings import Settings

__all__ = ["Indexes"]

_PYPI = "https://pypi.org/simple"
_NPM = "https://registry.npmjs.org"
#: an index with the files that it leads to
_HTML = "text/html"
_JSON = "application/json"
_LINK = re.compile(r"""(?P<begin><a\b[^>]*?\bhref=)(["'])(?P<url>.*?)\2""", re.DOTALL)
_METADATA = re.compile(r"""\sdata-(?:dist-info|core)-metadata(?:=(["']).*?\1)?""")


class Indexes:
    """Answers as an index of pip (PEP 503) and a registry of npm."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._web = Web(folder=settings.cache / "web", offline=settings.offline)
        #: name of a file to where it is, of those that a page has led to: nothing else is fetched
        self._files: dict[str, str] = {}

    async def answer(self, request: Request) -> Answer:
        """Answer what is asked of the mirror itself."""
        _, kind, *rest = request.path.split("/", 2)
        path = rest[0] if rest else ""
        try:
            if kind == "files":
                return await self._file(request.path)
            if kind == "pip" and self._settings.pip:
                return await self._pip(path.removeprefix("simple/").strip("/"))
            if kind == "npm" and self._settings.npm:
                return await self._npm(request, path)
        except Unavailable as error:
            return Answer.refused(str(error), status=503)
        if kind in ("pip", "npm"):
            return Answer.refused(
                f"layout {self._settings.layout} has no {kind}; "
                f"try: packages = Packages(..., {kind}=True)"
            )
        return Answer.refused(f"there is no {request.path} here", status=404)

    async def _pip(self, name: str) -> Answer:
        index = await asyncio.to_thread(_pip_index, self._settings.pip)
        url = f"{index.rstrip('/')}/{quote(name)}/"
        page = await self._web.get(url, accept=_HTML)
        if page is None:
            return Answer.refused(f"{index} has no {name!r}", status=404)

        def led(match: re.Match[str]) -> str:
            there, _, fragment = urljoin(url, html.unescape(match["url"])).partition("#")
            here = self._keep(there)
            return f'{match["begin"]}"{here}{"#" if fragment else ""}{html.escape(fragment)}"'

        text = _LINK.sub(led, _METADATA.sub("", await asyncio.to_thread(page.read_text)))
        return Answer(content=text.encode(), kind=_HTML)

    async def _npm(self, request: Request, name: str) -> Answer:
        registry = await asyncio.to_thread(_npm_registry, self._settings.npm)
        accept = request.headers.get("accept", _JSON)
        page = await self._web.get(
            f"{registry.rstrip('/')}/{quote(name, safe='@%')}", accept=accept
        )
        if page is None:
            return Answer.refused(f"{registry} has no {name!r}", status=404)
        record = json.loads(await asyncio.to_thread(page.read_bytes))
        for version in record.get("versions", {}).values():
            archive = version.get("dist", {})
            if "tarball" in archive:
                archive["tarball"] = f"http://{request.host}{self._keep(archive['tarball'])}"
        return Answer(content=json.dumps(record).encode(), kind=_JSON)

    def _keep(self, url: str) -> str:
        """The path here of a file that is elsewhere."""
        name = urlsplit(url).path.rpartition("/")[2]
        path = f"/files/{hashlib.sha256(url.encode()).hexdigest()[:32]}/{name}"
        self._files[unquote(path)] = url
        return path

    async def _file(self, path: str) -> Answer:
        url = self._files.get(path)
        file = None if url is None else await self._web.get(url, lasting=True)
        if file is None:
            return Answer.refused(f"no index has led to {path}", status=404)
        return Answer(content=file)


def _pip_index(given: str) -> str:
    """Address of the index: the one that is named, or the one of the host's own pip."""
    if given.startswith("http"):
        return given
    if address := os.environ.get("PIP_INDEX_URL"):
        return address
    return _printed("pip", "config", "get", "global.index-url") or _PYPI


def _npm_registry(given: str) -> str:
    """Address of the registry: the one that is named, or the one of the host's own npm."""
    if given.startswith("http"):
        return given
    return _printed("npm", "config", "get", "registry") or _NPM


def _printed(*argv: str) -> str:
    """The address that a program of the host prints; empty: it prints none, or is not there."""
    try:
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    text = done.stdout.strip()
    return text if done.returncode == 0 and text.startswith("http") else ""
