"""Taking a bundle apart: all of it is checked before anything of it is kept."""

from __future__ import annotations

import asyncio
import hashlib
import shutil
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from pytest_carthage import clock
from pytest_carthage.errors import BundleError
from pytest_carthage.images.bundles.manifest import Manifest
from pytest_carthage.images.bundles.reading import check, read_manifest
from pytest_carthage.images.bundles.unpacking import Unpacking, suite_folder, unpack_suite
from pytest_carthage.images.exports.places import absolute
from pytest_carthage.store.built import SHORT
from pytest_carthage.store.holding import Holding
from pytest_carthage.store.records import ImageRecord
from pytest_carthage.store.root import Store

__all__ = ["Foreign", "Unbundled", "unbundle"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Unbundled:
    """What a bundle has brought."""

    manifest: Manifest
    #: where the tests are, to start pytest in
    folder: Path
    #: layers that were new here
    new: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Foreign:
    """What of a bundle somebody has to trust: layers that were built elsewhere."""

    path: Path
    #: SHA-256 of what it says of itself, with the hashes of all that is in it
    digest: str
    #: of the layers that are new here, the lowest first
    titles: tuple[str, ...]


async def unbundle(
    path: Path,
    folder: Path | None = None,
    *,
    store: Store | None = None,
    note: Callable[[str], None],
    trust: Callable[[Foreign], bool],
) -> Unbundled:
    """Check a bundle; put its layers into the store and its tests into a new folder.

    A layer is called by what was declared of it, so that nobody can tell from its files whether it
    is what a build here would make. Therefore somebody has to trust it; each has its origin
    with it from then on, and none takes the place of one that is here.

    :param folder: must be empty or not exist; by default the layout's name, in the working folder.
    :param trust: is asked before layers are taken that are new here; False: nothing is kept.
    :raises BundleError: it is damaged or no bundle, there is no room, the folder has something, it
        is not trusted.
    """
    store = store or Store()
    await asyncio.to_thread(store.prepare)
    path = absolute(path)
    manifest = await asyncio.to_thread(read_manifest, path)
    folder = absolute(folder or Path(manifest.layout))
    await asyncio.to_thread(_refuse_folder, path, folder)
    with Holding() as holding:
        missing = {
            key for key in manifest.layers if not await holding.added(store.layers.path(key))
        }
        await asyncio.to_thread(_refuse_small, path, manifest, missing, store, folder)
        note(f"checking {path.name}")
        metas = await asyncio.to_thread(check, path, manifest)
        digest = hashlib.sha256(manifest.text.encode()).hexdigest()
        if missing:
            titles = tuple(metas[key].title for key in manifest.layers if key in missing)
            if not trust(Foreign(path=path, digest=digest, titles=titles)):
                raise BundleError(f"bundle {path}: it is not trusted, and nothing of it was kept")
        unpacking = Unpacking(
            path=path,
            manifest=manifest,
            metas=metas,
            store=store,
            origin=f"{path.name} ({digest[:SHORT]}), {_today()}",
            note=note,
            holding=holding,
        )
        note(f"unpacking the tests into {folder}")
        try:
            with suite_folder(path, folder) as new:
                await asyncio.to_thread(unpack_suite, path, manifest, new)
                await unpacking.run(missing)
        except BaseException:
            await asyncio.shield(unpacking.undo())
            raise
        for record in _records(manifest):
            if not store.is_complete(record.key):  # what is known of an image here stays so
                await asyncio.to_thread(store.records.keep, record)
    return Unbundled(manifest=manifest, folder=folder / manifest.folder, new=len(unpacking.made))


def _today() -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(clock.unix_s()))


def _refuse_folder(path: Path, folder: Path) -> None:
    if folder.is_dir() and not any(folder.iterdir()):
        return
    if folder.exists() or folder.is_symlink():
        raise BundleError(
            f"bundle {path}: the folder {folder} has something already; "
            f"try: pytest-carthage unbundle {path.name} FOLDER, with one that is new"
        )


def _refuse_small(
    path: Path, manifest: Manifest, missing: Collection[str], store: Store, folder: Path
) -> None:
    above = next(place for place in folder.parents if place.exists())
    suite = [member for name, member in manifest.members.items() if name.startswith("suite/")]
    needs = [
        (store.root, sum(manifest.sizes.get(key, 0) for key in missing), "its layers"),
        (above, sum(member.size for member in suite), "its tests"),
    ]
    for place, size, part in needs:
        free = shutil.disk_usage(place).free
        if size > free:
            raise BundleError(
                f"bundle {path}: {part} need {size >> 20} MiB, and {place} has {free >> 20} MiB "
                "free; try: pytest-carthage images gc, or CARTHAGE_IMAGES on another disk"
            )


def _records(manifest: Manifest) -> Iterator[ImageRecord]:
    now = clock.unix_s()
    for image in manifest.images:
        yield ImageRecord(
            key=image["key"],
            name=image["name"],
            tag=image["tag"],
            layers=tuple(image["layers"]),
            built_at=now,
            used_at=now,
            config=image["config"],
        )
