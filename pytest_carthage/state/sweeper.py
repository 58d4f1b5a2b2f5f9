"""Destroys what journals list, through the providers: also as a process of its own.

The process reads from standard input a JSON object: ``identities``, and in ``ask`` the identity
of a run of which the providers of ``kinds`` (null: all) are asked what still exists. It answers
with a line for each thing, as soon as that is known: ``identity``, and ``error`` or null.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pytest_carthage.errors import RestoreError
from pytest_carthage.fabric import syscalls
from pytest_carthage.provider import Identity, Provider, load_providers
from pytest_carthage.state import journal
from pytest_carthage.state.entries import as_entry, from_entry

__all__ = ["destroy_all"]

#: the longest that a provider may take for one thing, unless that says otherwise, as a detail
_LIMIT_S = 60.0

#: is told of each thing once it is destroyed, or tried for the last time
Report = Callable[[Identity, Exception | None], None]


async def destroy_all(
    identities: Sequence[Identity],
    provider_of: Callable[[str], Provider],
    report: Report = lambda identity, error: None,
) -> Mapping[Identity, Exception]:
    """Destroy all that can be destroyed; returns what is left, and why.

    It is done all at once, and again as long as that destroys anything: some things go only when
    others have gone. What was given back, and not as it was, is among what is returned, and is
    not tried again.

    :param provider_of: kind to provider; what it raises is why nothing of that kind can be
        destroyed.
    """
    left, given_back = list(identities), dict[Identity, Exception]()
    while left:
        errors = await asyncio.gather(*(_destroy(identity, provider_of) for identity in left))
        failures = {}
        for identity, error in zip(left, errors, strict=True):
            if error is None:
                report(identity, None)
            elif isinstance(error, RestoreError):
                report(identity, error)
                given_back[identity] = error
            else:
                failures[identity] = error
        if len(failures) == len(left):
            for identity, error in failures.items():
                report(identity, error)
            return given_back | failures
        left = list(failures)
    return given_back


async def _destroy(identity: Identity, provider_of: Callable[[str], Provider]) -> Exception | None:
    limit_s = float(dict(identity.detail).get("limit_s", _LIMIT_S))
    try:
        async with asyncio.timeout(limit_s) as limit:
            await provider_of(identity.kind).destroy(identity)
    except Exception as error:
        return TimeoutError(f"no end after {limit_s:g} s") if limit.expired() else error
    return None


class _Providers:
    """The providers of this process, and why there is none of a kind."""

    def __init__(self) -> None:
        self._factories = load_providers()
        self._made: dict[str, Provider] = {}

    @property
    def kinds(self) -> list[str]:
        return sorted(self._factories)

    def of(self, kind: str) -> Provider:
        if kind not in self._made:
            if kind not in self._factories:
                kinds = ", ".join(self.kinds)
                raise LookupError(f"no provider of kind {kind!r} is installed; there are: {kinds}")
            self._made[kind] = self._factories[kind]()
        return self._made[kind]


async def _leftovers(run: str, kind: str, providers: _Providers) -> Sequence[Identity]:
    provider = providers.of(kind)
    if not provider.traits.outside:
        return ()
    async with asyncio.timeout(_LIMIT_S):
        identities = await provider.leftovers(run)
    for identity in identities:
        if (identity.kind, identity.run) != (kind, run):
            raise ValueError(f"asked for leftovers of run {run}, it told of {identity!r}")
    return identities


async def _sweep(question: Mapping[str, Any], report: Report) -> None:
    providers = _Providers()
    identities = {journal.thing(entry): from_entry(entry) for entry in question["identities"]}
    run = question["ask"]
    kinds = question["kinds"] if question["kinds"] is not None else providers.kinds
    for kind in kinds if run else ():
        try:
            for identity in await _leftovers(run, kind, providers):
                identity_known = identities.setdefault(journal.thing(as_entry(identity)), identity)
                identities[journal.thing(as_entry(identity))] = identity_known.with_detail(
                    **dict(identity.detail)
                )
        except Exception as error:
            # things of this kind that cannot be destroyed either have it asked again anyway
            if all(identity.kind != kind for identity in identities.values()):
                report(Identity(kind=kind, run=run, environment="", name="", outside=True), error)
    await destroy_all(list(identities.values()), providers.of, report)


def main() -> None:
    """Entry of the process."""
    syscalls.die_with_parent(signal.SIGKILL)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what providers print is for the log

    def report(identity: Identity, error: Exception | None) -> None:
        text = None if error is None else f"{type(error).__name__}: {error}"
        print(json.dumps({"identity": as_entry(identity), "error": text}), file=answers, flush=True)
        if text is not None:
            print(f"{identity}: {text}", file=sys.stderr, flush=True)

    asyncio.run(_sweep(json.load(sys.stdin), report))


if __name__ == "__main__":
    main()
