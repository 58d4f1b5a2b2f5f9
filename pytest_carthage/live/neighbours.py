"""All other live layouts of this user, whichever process has built them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from pytest_carthage.live.packets.sealing import Neighbour
from pytest_carthage.state.listing import list_environments

__all__ = ["neighbours"]


async def neighbours(folder: Path) -> Sequence[Neighbour]:
    """Those that are listed, without the one whose private folder this is."""
    others = []
    for listed in await asyncio.to_thread(list_environments):
        if listed.folder == folder:
            continue
        links = [
            link
            for machine in listed.machines.values()
            for link in machine["links"]
            if link["mac"] is not None  # its network is elsewhere
        ]
        others.append(
            Neighbour(
                name=listed.name,
                socket=listed.socket,
                addresses=[
                    address.partition("/")[0] for link in links for address in link["addresses"]
                ],
                macs=frozenset(link["mac"] for link in links),
            )
        )
    return others
