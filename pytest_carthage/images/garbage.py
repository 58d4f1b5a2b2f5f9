"""Removing images: what nobody needs any more, and never what somebody uses.

Who builds holds each layer from when it was found or made; who starts machines holds the top one.
So whatever is decided here is looked at once more under a lock before it goes.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import secrets
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pytest_carthage.images.inventory import SHORT, bytes_of, users_of
from pytest_carthage.images.store import (
    Broken,
    ImageRecord,
    Layer,
    Store,
    disk_usage,
    write_atomically,
)

__all__ = ["Removed", "collect", "remove_broken", "remove_layers"]

Kind = Literal["image", "layer", "broken build", "work folder", "locks", "packages"]

#: what may be used although nothing tells so is left alone for so long
_GRACE_S = 3600.0
_KEY = re.compile(r"[0-9a-f]{32}")
#: folders that whoever works in them has locked
_LOCKED = ("look-", "result-")


@dataclass(frozen=True, slots=True, kw_only=True)
class Removed:
    """One thing that was removed, or would be."""

    kind: Kind
    name: str
    #: bytes on disk that it took
    size: int


def collect(store: Store, *, older_than_s: float, dry_run: bool = False) -> list[Removed]:
    """Remove images that were not used for so long, and older layers that belong to none.

    :param dry_run: only tell what would be removed.
    """
    store.prepare()
    before = time.time() - older_than_s
    found: list[Removed] = []
    broken = list(_old_broken(store, before, dry_run))
    found += broken
    forgotten = list(_forget(store, before, dry_run))
    found += [_row(record) for record in forgotten]
    gone = {record.key for record in forgotten}
    gone_broken = {row.name for row in broken}
    needed = {key for record in store.records() if record.key not in gone for key in record.layers}
    needed |= {key for one in store.broken() if one.name not in gone_broken for key in one.layers}
    # what a build that failed has finished, or an edit has left behind, may be wanted again
    needed |= {layer.key for layer in store.layers() if layer.meta.made_at >= before}
    found += _layers(store, needed, dry_run)
    found += _work(store, dry_run)
    if not dry_run:
        _prune_results(store)
        _remove_half_written(store)
    found += _locks(store, dry_run)
    found += _packages(store, min(before, time.time() - _GRACE_S), dry_run)
    return found


def _row(record: ImageRecord) -> Removed:
    return Removed(kind="image", name=f"{record.name} ({record.key[:SHORT]})", size=0)


def _forget(store: Store, before: float, dry_run: bool) -> Iterator[ImageRecord]:
    for record in store.records():
        if record.used_at >= before:
            continue
        if dry_run:
            if not (record.layers and users_of(store, record.layers[-1])):
                yield record
        elif store.forget(record):
            yield record


# layers


def remove_layers(store: Store, keys: Sequence[str]) -> list[Removed]:
    """Remove layers of an image, the top first, as long as nobody needs them."""
    found = []
    for key in keys:
        layer = store.layer(key)
        if layer is None:
            continue
        size = bytes_of(layer)
        if not store.remove(key):
            break
        found.append(_layer_row(layer, size))
    return found


def _layer_row(layer: Layer, size: int) -> Removed:
    return Removed(kind="layer", name=f"{layer.meta.title} ({layer.key[:SHORT]})", size=size)


def _layers(store: Store, needed: set[str], dry_run: bool) -> Iterator[Removed]:
    there = {layer.key: layer for layer in store.layers()}
    stay = set(needed)
    for layer in _top_first(there):
        size = bytes_of(layer)
        if layer.key not in stay and (
            not users_of(store, layer.key) if dry_run else store.remove(layer.key)
        ):
            yield _layer_row(layer, size)
        elif layer.meta.parent is not None:
            stay.add(layer.meta.parent)
    # those that say nothing of themselves: damaged
    for path in store.folder("layers").iterdir():
        if path.name not in there and store.layer(path.name) is None and path.is_dir():
            size = disk_usage(path)
            if dry_run or store.remove(path.name):
                yield Removed(kind="layer", name=f"damaged ({path.name[:SHORT]})", size=size)


def _top_first(layers: dict[str, Layer]) -> list[Layer]:
    """Each layer before the one that it stands on."""

    def depth(layer: Layer) -> int:
        count, below = 0, layer.meta.parent
        while below in layers and count <= len(layers):
            count, below = count + 1, layers[below].meta.parent
        return count

    return sorted(layers.values(), key=depth, reverse=True)


# broken builds


def _old_broken(store: Store, before: float, dry_run: bool) -> Iterator[Removed]:
    known = {one.name: one.at for one in store.broken()}
    for path in sorted(store.folder("broken").iterdir()):
        with contextlib.suppress(FileNotFoundError):
            if known.get(path.name, path.stat().st_mtime) >= before:
                continue
            size = disk_usage(path)
            if dry_run or _take_away(store, path):
                yield Removed(kind="broken build", name=path.name, size=size)


def remove_broken(store: Store, broken: Broken) -> Removed | None:
    """Remove a broken build; None: somebody looks at it."""
    size = disk_usage(broken.path)
    if not _take_away(store, broken.path):
        return None
    return Removed(kind="broken build", name=broken.name, size=size)


# what dead processes have left


def _take_away(store: Store, path: Path) -> bool:
    """Delete a folder that nobody has locked; False: somebody has, or it is gone."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    away = store.folder("work") / f"{path.name}.{secrets.token_hex(4)}.removed"
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.rename(away)
    except OSError:
        return False
    finally:
        os.close(fd)
    store.delete(away)
    return True


def _work(store: Store, dry_run: bool) -> Iterator[Removed]:
    for path in sorted(store.folder("work").iterdir()):
        try:
            age_s = time.time() - path.stat().st_mtime
        except FileNotFoundError:
            continue
        size = disk_usage(path)
        if path.name.endswith(".removed"):
            # whoever renamed it may have been killed before it was deleted
            if not dry_run:
                store.delete(path)
            yield Removed(kind="work folder", name=path.name, size=size)
        elif _KEY.fullmatch(path.name):
            with store.trying(path.name) as is_dead:
                if is_dead and (dry_run or _take_away(store, path)):
                    yield Removed(kind="work folder", name=path.name, size=size)
        elif (path.name.startswith(_LOCKED) or age_s > _GRACE_S) and (
            _is_free(path) if dry_run else _take_away(store, path)
        ):
            yield Removed(kind="work folder", name=path.name, size=size)


def _is_free(path: Path) -> bool:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(fd)
    return True


def _locks(store: Store, dry_run: bool) -> Iterator[Removed]:
    removed = 0
    for path in store.folder("locks").glob("*.lock"):
        if dry_run:
            removed += _is_free(path)
            continue
        with store.trying(path.stem) as is_dead:
            removed += is_dead
    if removed:
        name = f"{removed} of builds that have ended"
        yield Removed(kind="locks", name=name, size=0)


def _prune_results(store: Store) -> None:
    """Forget results that are no longer there."""
    for path in store.folder("results").glob("*.json"):
        rows = store.results(path.stem)
        if rows and all((store.folder("layers") / row["layer"]).is_dir() for row in rows):
            continue
        with store.trying(path.stem) as is_dead:
            if not is_dead:
                continue
            rows = [
                row
                for row in store.results(path.stem)
                if (store.folder("layers") / row["layer"]).is_dir()
            ]
            if rows:
                write_atomically(path, json.dumps(rows))
            else:
                path.unlink(missing_ok=True)


def _remove_half_written(store: Store) -> None:
    for name in ("names", "results"):
        for path in store.folder(name).glob("*.new"):
            with contextlib.suppress(FileNotFoundError):
                if time.time() - path.stat().st_mtime > _GRACE_S:
                    path.unlink()


# packages that were downloaded


def _packages(store: Store, before: float, dry_run: bool) -> Iterator[Removed]:
    """Package lists and archives that were not used since."""
    for folder in sorted(store.folder("apt").iterdir()):
        if not folder.is_dir():
            continue
        if _last_used(folder.rglob("*")) < before:
            size = disk_usage(folder)
            with _locked(folder.rglob("*lock")) as is_free:
                if is_free and (dry_run or _take_away(store, folder)):
                    yield Removed(kind="packages", name=folder.name, size=size)
            continue
        yield from _archives(folder, before, dry_run)


def _archives(folder: Path, before: float, dry_run: bool) -> Iterator[Removed]:
    """Archives of a cache that is in use: a build sets the time of those that it takes."""
    with _locked([folder / "archives.lock"]) as is_free:
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
def _locked(paths: Iterable[Path]) -> Iterator[bool]:
    """Hold locks of others that are there; False: not all of them are free."""
    with contextlib.ExitStack() as stack:
        is_free = True
        for path in sorted(paths):
            if not path.is_file():
                continue
            try:
                fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
                stack.callback(os.close, fd)
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                is_free = False
                break
        yield is_free
