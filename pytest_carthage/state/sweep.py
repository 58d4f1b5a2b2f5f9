"""Destroys identities from a journal: run by the supervisor, which cannot load providers.

Reads a JSON list of identities from standard input. What fails is printed; the rest goes on.
"""

from __future__ import annotations

import asyncio
import json
import sys

from pytest_carthage.provider import Identity, load_providers
from pytest_carthage.state.run import from_entry


async def _sweep(identities: list[Identity]) -> int:
    providers = load_providers()
    failed = 0
    for identity in identities:
        make = providers.get(identity.kind)
        if make is None:
            print(f"no provider {identity.kind!r} for {identity}", file=sys.stderr)
            failed += 1
            continue
        try:
            async with asyncio.timeout(60):
                await make().destroy(identity)
        except Exception as error:
            print(f"{identity}: {type(error).__name__}: {error}", file=sys.stderr)
            failed += 1
    return failed


if __name__ == "__main__":
    sys.exit(1 if asyncio.run(_sweep([from_entry(e) for e in json.load(sys.stdin)])) else 0)
