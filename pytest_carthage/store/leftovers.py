"""What dead processes have left in a store: work folders, claims, files half written."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

from pytest_carthage import clock
from pytest_carthage.fabric.host.claim import is_free
from pytest_carthage.store import disk
from pytest_carthage.store.disk import disk_usage
from pytest_carthage.store.removed import GRACE_S, Removed
from pytest_carthage.store.root import Store

__all__ = ["leftovers"]

_KEY = re.compile(r"[0-9a-f]{32}")
#: work folders that are claimed by whoever works in them
_SCRATCH = ("look-", "result-")


def leftovers(store: Store, dry_run: bool) -> Iterator[Removed]:
    """Remove what dead processes have left, and tell of what is worth telling."""
    yield from _work(store, dry_run)
    if not dry_run:
        _prune_outcomes(store)
        for folder in (store.records.folder, store.outcomes.folder):
            _remove_half_written(folder)
    yield from _claims(store, dry_run)


def _work(store: Store, dry_run: bool) -> Iterator[Removed]:
    for path in sorted(store.folder("work").iterdir()):
        try:
            age_s = clock.unix_s() - path.stat().st_mtime
        except FileNotFoundError:
            continue
        size = disk_usage(path)
        row = Removed(kind="work folder", name=path.name, size=size)
        if path.name.endswith(".removed"):
            # whoever renamed it may have been killed before it was deleted
            if not dry_run:
                disk.delete(path)
            yield row
        elif _KEY.fullmatch(path.name):
            with store.claims.if_free(path.name) as is_dead:
                if is_dead and (dry_run or store.take_away(path)):
                    yield row
        elif (path.name.startswith(_SCRATCH) or age_s > GRACE_S) and (
            is_free(path) if dry_run else store.take_away(path)
        ):
            yield row


def _claims(store: Store, dry_run: bool) -> Iterator[Removed]:
    removed = 0
    for path in store.claims.paths():
        if dry_run:
            removed += is_free(path)
            continue
        with store.claims.if_free(path.stem) as is_dead:
            removed += is_dead
    if removed:
        yield Removed(kind="locks", name=f"{removed} of builds that have ended", size=0)


def _prune_outcomes(store: Store) -> None:
    """Forget outcomes of which the layer is no longer there."""
    for declared in list(store.outcomes.declared()):
        outcomes = store.outcomes.of(declared)
        if outcomes and all(outcome.layer in store.layers for outcome in outcomes):
            continue
        with store.claims.if_free(declared) as is_dead:
            if is_dead:
                there = [row for row in store.outcomes.of(declared) if row.layer in store.layers]
                store.outcomes.replace(declared, there)


def _remove_half_written(folder: Path) -> None:
    for path in folder.glob("*.new"):
        with contextlib.suppress(FileNotFoundError):
            if clock.unix_s() - path.stat().st_mtime > GRACE_S:
                path.unlink()
