"""Repositories of others: those that a layout names, or where all is open those of the host."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pytest_carthage.mirror.fetching import Fetching, Unreachable
from pytest_carthage.mirror.message import Answer
from pytest_carthage.work.debian import sources

if TYPE_CHECKING:
    from pytest_carthage.mirror.message import Request
    from pytest_carthage.mirror.settings import Settings
    from pytest_carthage.work.debian.apt import Apt

__all__ = ["Repositories"]


class Repositories:
    """Answers for repositories that are named."""

    def __init__(self, settings: Settings, fetching: Fetching) -> None:
        self._settings = settings
        self._fetching = fetching

    async def answer(self, apt: Apt, request: Request) -> Answer:
        """Answer what is asked of a repository; one that is not named is refused by name.

        :param apt: by which way this host reaches it.
        """
        wanted = request.url.partition("://")[2]
        for address in await asyncio.to_thread(lambda: self._addresses):
            scheme, _, bare = address.partition("://")
            if wanted.startswith(f"{bare.rstrip('/')}/"):
                return await self._fetched(apt, f"{scheme}://{wanted}")
        parts = urlsplit(request.url)
        base = f"{parts.scheme}://{parts.netloc}{parts.path.partition('/dists/')[0]}"
        return Answer.refused(
            f"{request.url} is of no repository of layout {self._settings.layout}; "
            f'try: packages = Packages(repositories=["{base.partition("/pool/")[0]}"])'
        )

    async def _fetched(self, apt: Apt, url: str) -> Answer:
        try:
            path = await self._fetching.fetch(url, apt.cache, lasting="/by-hash/" in url)
        except Unreachable as error:
            return Answer.refused(str(error), status=503)
        if path is None:
            return Answer.refused(f"there is no {url}", status=404)
        return Answer(content=path)

    @cached_property
    def _addresses(self) -> Sequence[str]:
        own = sources.addresses() if self._settings.is_open else []
        return [*self._settings.repositories, *own]
