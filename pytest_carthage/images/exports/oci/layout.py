"""An image as an OCI image layout: a folder."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_carthage.errors import BuildError
from pytest_carthage.images.exports.failures import refusal
from pytest_carthage.images.exports.notes import Note, quiet
from pytest_carthage.images.exports.oci.blobs import Blob, digits, gzipped, written
from pytest_carthage.images.exports.oci.description import configuration, describe, is_left_out
from pytest_carthage.images.exports.places import absolute
from pytest_carthage.store.pending import hidden
from pytest_carthage.store.root import pending

if TYPE_CHECKING:
    from pytest_carthage.store.built import Built
    from pytest_carthage.store.layer import Layer

__all__ = ["save_layout"]


async def save_layout(built: Built, folder: Path, *, compress: bool, note: Note = quiet) -> str:
    """Write an OCI image layout into a new folder, or in place of an old layout.

    :returns: digest of the manifest.
    :raises BuildError: it cannot be written, or the folder holds something else.
    """
    folder = absolute(folder)
    doing = f"{built.who}: saved as {folder}"
    if await asyncio.to_thread(_has_something_else, folder):
        raise BuildError(f"{doing}: there is something that is no image layout; try: another name")
    new = hidden(folder)
    with pending().announced(new) as made:
        try:
            (new / "blobs" / "sha256").mkdir(parents=True)
            made()
            digest = await _write(built, new, doing, note, compress=compress)
            await asyncio.to_thread(_replace_folder, new, folder)
        except OSError as error:
            raise refusal(doing, error, folder.parent) from error
        finally:
            await asyncio.shield(asyncio.to_thread(shutil.rmtree, new, ignore_errors=True))
    return digest


async def _write(built: Built, folder: Path, doing: str, note: Note, *, compress: bool) -> str:
    blobs_folder = folder / "blobs" / "sha256"
    blobs = []
    for number, layer in enumerate(built.layers):
        note(f"saving {layer.meta.title}")
        blob = await _into(layer, blobs_folder, doing, note, compress=compress)
        if is_left_out(number, blob.plain):
            (blobs_folder / digits(blob.digest)).unlink(missing_ok=True)
        blobs.append(blob)
    config = configuration(built, [blob.plain for blob in blobs])
    description = describe(built, config, blobs, compress=compress)
    description.write(folder)
    return description.digest


async def _into(layer: Layer, folder: Path, doing: str, note: Note, *, compress: bool) -> Blob:
    """Write a layer into a folder, named by its digest."""
    if not compress:
        return Blob.of(await written(layer, folder, doing))
    blob = await gzipped(layer, doing, note)
    assert blob.path is not None
    await asyncio.to_thread(shutil.copyfile, blob.path, folder / digits(blob.digest))
    return blob


def _has_something_else(folder: Path) -> bool:
    """Whether there is something that is no layout."""
    if not folder.is_dir():
        return folder.exists()
    return not (folder / "oci-layout").exists() and any(folder.iterdir())


def _replace_folder(new: Path, folder: Path) -> None:
    old = new.with_suffix(".old")
    if folder.exists():
        folder.rename(old)
    new.rename(folder)
    shutil.rmtree(old, ignore_errors=True)
