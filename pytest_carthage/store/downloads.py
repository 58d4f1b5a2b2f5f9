"""Package lists and archives that were downloaded for images, and are not used any more."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from pytest_carthage import clock
from pytest_carthage.fabric.host.claim import take
from pytest_carthage.store.disk import disk_usage
from pytest_carthage.store.removed import GRACE_S, Removed
from pytest_carthage.store.root import Store

__all__ = ["old_packages"]


def old_packages(store: Store, before: float, dry_run: bool) -> Iterator[Removed]:
    """Remove package lists and archives that were not used since a time."""
    before = min(before, clock.unix_s() - GRACE_S)
    for folder in sorted(store.folder("apt").iterdir()):
        if not folder.is_dir():
            continue
        if _last_used(folder.rglob("*")) < before:
            size = disk_usage(folder)
            with _all_free(folder.rglob("*lock")) as is_free:
                if is_free and (dry_run or store.take_away(folder)):
                    yield Removed(kind="packages", name=folder.name, size=size)
            continue
        yield from _archives(folder, before, dry_run)


def _archives(folder: Path, before: float, dry_run: bool) -> Iterator[Removed]:
    """Archives of a cache that is in use: a build sets the time of those that it takes."""
    with _all_free([folder / "archives.lock"]) as is_free:
        old = [path for path in folder.glob("archives/*.deb") if _last_used([path]) < before]
        if not is_free or not old:
            return
        size = 0
        for path in old:
            with contextlib.suppress(FileNotFoundError):
                size += path.stat().st_blocks * 512
                if not dry_run:
                    path.unlink()
    yield Removed(kind="packages", name=f"{len(old)} archives of {folder.name}", size=size)


def _last_used(paths: Iterable[Path]) -> float:
    newest = 0.0
    for path in paths:
        with contextlib.suppress(OSError):
            newest = max(newest, path.lstat().st_mtime)
    return newest


@contextlib.contextmanager
def _all_free(paths: Iterable[Path]) -> Iterator[bool]:
    """Claim files that are there while the block runs.

    Yields False where another process has one of them.
    """
    with contextlib.ExitStack() as claims:
        try:
            for path in sorted(paths):
                if path.is_file():
                    claims.enter_context(take(path))
        except OSError:
            claims.close()
            yield False
            return
        yield True
